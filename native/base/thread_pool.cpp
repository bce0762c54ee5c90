#include "base/thread_pool.h"

#include <chrono>
#include <string>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr int kMaxThreads = 1024;
// Longer than the gap between two stages of a step, shorter than anyone would notice as load.
constexpr std::chrono::microseconds kSpinTime{50};
constexpr int kSpinsPerClockRead = 16;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once `value` differs from `old`: soon if it happens soon, else after a sleep.
uint32_t await_change(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kSpinsPerClockRead; ++i) {
      const uint32_t current = value.load(std::memory_order_acquire);
      if (current != old) return current;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  if (num_threads < 1 || num_threads > kMaxThreads) {
    throw Error(ErrorCode::invalid_parameter, "expected 1.." + std::to_string(kMaxThreads) +
                                                  " threads, got " + std::to_string(num_threads));
  }
  threads_.reserve(num_threads - 1);
  try {
    for (int worker = 1; worker < num_threads; ++worker)
      threads_.emplace_back([this, worker] { work(worker); });
  } catch (...) {
    stop();
    throw Error(ErrorCode::out_of_memory, "could not start " + std::to_string(num_threads - 1) +
                                              " compute threads: the system refused one");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  is_stopping_.store(true);
  stage_.fetch_add(1);
  stage_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run_stage(int64_t num_chunks, ChunkFunction function, void* context) {
  if (num_chunks <= 0) return;
  if (num_chunks > INT32_MAX) throw Error(ErrorCode::internal, "a stage has more than 2^31 - 1 chunks");
  if (num_chunks == 1 || threads_.empty()) {
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) function(context, chunk, 0);
    return;
  }
  const uint32_t stage = stage_.load(std::memory_order_relaxed) + 1;
  // Closed while the fields change: a worker that still holds the last ticket of the stage before must not
  // take the new number of chunks for a reason to claim one more.
  ticket_.store(uint64_t{stage} << 32 | UINT32_MAX, std::memory_order_relaxed);
  function_.store(function, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  num_chunks_.store(static_cast<uint32_t>(num_chunks), std::memory_order_release);
  num_done_.store(0, std::memory_order_relaxed);
  ticket_.store(uint64_t{stage} << 32, std::memory_order_release);
  stage_.store(
      stage);  // sequentially consistent, so that the notification cannot miss a worker going to sleep
  stage_.notify_all();
  take_chunks(stage, 0);
  uint32_t num_done = num_done_.load(std::memory_order_acquire);
  while (num_done != num_chunks) num_done = await_change(num_done_, num_done);
  if (!has_failed_.load(std::memory_order_relaxed)) return;
  has_failed_.store(false, std::memory_order_relaxed);
  std::rethrow_exception(std::exchange(exception_, nullptr));
}

void ThreadPool::work(int worker) {
  uint32_t stage = 0;
  for (;;) {
    stage = await_change(stage_, stage);
    if (is_stopping_.load()) return;
    take_chunks(stage, worker);
  }
}

void ThreadPool::take_chunks(uint32_t stage, int worker) {
  for (;;) {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    if (ticket >> 32 != stage) return;
    const ChunkFunction function = function_.load(std::memory_order_acquire);
    void* const context = context_.load(std::memory_order_acquire);
    const uint32_t num_chunks = num_chunks_.load(std::memory_order_acquire);
    const uint32_t chunk = static_cast<uint32_t>(ticket);
    if (chunk >= num_chunks) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
    if (!has_failed_.load(std::memory_order_relaxed)) {
      try {
        function(context, chunk, worker);
      } catch (...) {
        keep_exception();
      }
    }
    // The last one to finish may find the calling thread asleep.
    if (num_done_.fetch_add(1) + 1 == num_chunks) num_done_.notify_one();
  }
}

void ThreadPool::keep_exception() {
  const std::lock_guard lock(exception_mutex_);
  if (exception_ == nullptr) exception_ = std::current_exception();
  has_failed_.store(true, std::memory_order_relaxed);
}

}  // namespace autoglm
