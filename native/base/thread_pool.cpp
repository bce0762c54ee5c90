#include "base/thread_pool.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr int kMaxThreads = 1024;
// Longer than the gap between two stages of a step, shorter than anyone would notice as load.
constexpr std::chrono::nanoseconds kSpinTime{50'000};
// A chunk that is this late is computed again, if it also took longer than the stage took so far.
constexpr std::chrono::nanoseconds kMinPatience{10'000};
constexpr int kSpinsPerClockRead = 16;
constexpr std::align_val_t kCacheLine{64};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::chrono::nanoseconds now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
}

using Word = uint64_t;

std::atomic_ref<Word> word_at(std::byte* memory, size_t index) {
  return std::atomic_ref<Word>(reinterpret_cast<Word*>(memory)[index]);
}

// Word by word, because a late thread may be reading.
void store_body(std::byte* to, const void* from, size_t num_bytes) {
  for (size_t i = 0; i * sizeof(Word) < num_bytes; ++i) {
    Word word = 0;
    std::memcpy(&word, static_cast<const std::byte*>(from) + i * sizeof(Word),
                std::min(sizeof(Word), num_bytes - i * sizeof(Word)));
    word_at(to, i).store(word, std::memory_order_relaxed);
  }
}

void load_body(std::byte* to, std::byte* from, size_t num_words) {
  for (size_t i = 0; i < num_words; ++i) {
    const Word word = word_at(from, i).load(std::memory_order_relaxed);
    std::memcpy(to + i * sizeof(Word), &word, sizeof(Word));
  }
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_used_(num_threads) {
  if (num_threads < 1 || num_threads > kMaxThreads) {
    throw Error(ErrorCode::invalid_parameter, "expected 1.." + std::to_string(kMaxThreads) +
                                                  " threads, got " + std::to_string(num_threads));
  }
  workers_ = std::make_unique<Worker[]>(static_cast<size_t>(num_threads));
  for (int worker = 0; worker < num_threads; ++worker) {
    workers_[worker].memory = {static_cast<std::byte*>(operator new(kReplayBytes, kCacheLine)),
                               [](std::byte* memory) { operator delete(memory, kCacheLine); }};
  }
  if (num_threads == 1) return;
  nodes_ = numa_nodes();
  ring_ = std::make_unique<Stage[]>(kRingSize);
  commits_ = std::make_unique<Commit[]>(kMaxReplayChunks);
  threads_.reserve(num_threads - 1);
  try {
    for (int worker = 1; worker < num_threads; ++worker)
      threads_.emplace_back([this, worker, num_threads] {
        place_worker(worker, num_threads);
        work(worker);
      });
  } catch (...) {
    stop();
    throw Error(ErrorCode::out_of_memory, "could not start " + std::to_string(num_threads - 1) +
                                              " compute threads: the system refused one");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::place_worker(int worker, int num_threads) const {
  if (!nodes_.empty()) keep_thread_on(node_of_worker(nodes_, worker, num_threads));
}

void ThreadPool::stop() {
  is_stopping_.store(true);
  wake_count_.fetch_add(1);
  wake_count_.notify_all();
  use_threads(kMaxThreads);
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::use_threads(int num_threads) {
  if (num_used_.load(std::memory_order_relaxed) == num_threads) return;
  num_used_.store(num_threads);
  num_used_.notify_all();
}

void ThreadPool::push_copy(int64_t num_chunks, const Calls& calls, const void* body, size_t num_bytes) {
  if (num_chunks <= 0) return;
  if (num_chunks >= int64_t{1} << kChunkBits) {
    throw Error(ErrorCode::internal, "a stage has more than 2^24 - 1 chunks");
  }
  if (calls.compute != nullptr && num_chunks > kMaxReplayChunks) {
    throw Error(ErrorCode::internal, "a replayable stage has more than 256 chunks");
  }
  if (threads_.empty()) return run_here(num_chunks, calls, body);
  const uint64_t number = num_queued_.load(std::memory_order_relaxed);
  if (number >= kRingSize) work_until_past(number - kRingSize);
  Stage& stage = ring_[number % kRingSize];
  stage.num_chunks.store(static_cast<uint32_t>(num_chunks), std::memory_order_relaxed);
  stage.run.store(calls.run, std::memory_order_relaxed);
  stage.compute.store(calls.compute, std::memory_order_relaxed);
  stage.commit.store(calls.commit, std::memory_order_relaxed);
  stage.num_done.store(0, std::memory_order_relaxed);
  stage.body_words.store(static_cast<uint32_t>((num_bytes + sizeof(Word) - 1) / sizeof(Word)),
                         std::memory_order_relaxed);
  store_body(stage.body, body, num_bytes);
  if (number == ticket_.load(std::memory_order_relaxed) >> kChunkBits) {
    opened_at_.store(now().count(), std::memory_order_relaxed);
  }
  num_queued_.store(number + 1);  // sequentially consistent, so that `wake_sleepers` misses nobody
  wake_sleepers();
}

// Without other threads there is nothing to queue for.
void ThreadPool::run_here(int64_t num_chunks, const Calls& calls, const void* body) {
  std::byte* memory = workers_[0].memory.get();
  for (int64_t chunk = 0; chunk < num_chunks && !drops_chunks(); ++chunk) {
    try {
      if (calls.compute == nullptr) {
        calls.run(body, chunk, 0);
      } else {
        calls.compute(body, chunk, memory);
        calls.commit(body, chunk, memory);
      }
    } catch (...) {
      keep_exception();
    }
  }
}

// Works until the stage of this number is over. Nobody else queues, so when nothing is left, all is done.
void ThreadPool::work_until_past(uint64_t number) {
  while (ticket_.load(std::memory_order_acquire) >> kChunkBits <= number) {
    const Attempt attempt = try_chunk(0);
    if (attempt.outcome == Outcome::empty) return;
    if (attempt.outcome == Outcome::exhausted) await_progress(attempt, 0);
  }
}

void ThreadPool::await_queued() {
  const uint64_t num_queued = num_queued_.load(std::memory_order_relaxed);
  if (num_queued > 0) work_until_past(num_queued - 1);
}

void ThreadPool::finish() {
  await_queued();
  if (!has_failed_.load(std::memory_order_relaxed)) return;
  has_failed_.store(false, std::memory_order_relaxed);
  std::rethrow_exception(std::exchange(exception_, nullptr));
}

void ThreadPool::drop() noexcept {
  has_failed_.store(true, std::memory_order_relaxed);
  await_queued();
  has_failed_.store(false, std::memory_order_relaxed);
  exception_ = nullptr;
}

void ThreadPool::work(int worker) {
  while (!is_stopping_.load(std::memory_order_relaxed)) {
    const int num_used = num_used_.load(std::memory_order_acquire);
    if (worker >= num_used) {
      num_used_.wait(num_used);
      continue;
    }
    const Attempt attempt = try_chunk(worker);
    if (attempt.outcome != Outcome::ran) await_progress(attempt, worker);
  }
}

// Claims a chunk of the current stage and runs it.
ThreadPool::Attempt ThreadPool::try_chunk(int worker) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  const uint64_t number = ticket >> kChunkBits;
  if (number == num_queued_.load(std::memory_order_acquire)) return {Outcome::empty, number, false};
  Stage& stage = ring_[number % kRingSize];
  const auto chunk = static_cast<uint32_t>(ticket & ((uint64_t{1} << kChunkBits) - 1));
  // Both read before the claim: afterwards a replayable stage may be over, and its place taken.
  const bool is_replayable = stage.compute.load(std::memory_order_relaxed) != nullptr;
  const uint32_t num_chunks = stage.num_chunks.load(std::memory_order_relaxed);
  if (chunk >= num_chunks) return {Outcome::exhausted, number, is_replayable};
  if (ticket_.compare_exchange_strong(ticket, ticket + 1, std::memory_order_acq_rel)) {
    if (is_replayable) {
      compute_chunk(stage, number, chunk, worker);
    } else {
      run_chunk(stage, number, chunk, worker);
    }
  }
  return {Outcome::ran, number, is_replayable};
}

// The chunk is this thread's alone, so its stage stays current until it is done.
void ThreadPool::run_chunk(Stage& stage, uint64_t number, uint32_t chunk, int worker) {
  if (!drops_chunks()) {
    try {
      stage.run.load(std::memory_order_relaxed)(stage.body, chunk, worker);
    } catch (...) {
      keep_exception();
    }
  }
  complete_chunk(stage, number);
}

// Several threads may be here with the same chunk: each computes it in memory of its own, one commits it.
void ThreadPool::compute_chunk(Stage& stage, uint64_t number, uint32_t chunk, int worker) {
  Worker& own = workers_[worker];
  alignas(64) std::byte body[kMaxBodyBytes];
  load_body(body, stage.body, stage.body_words.load(std::memory_order_relaxed));
  const auto compute = stage.compute.load(std::memory_order_relaxed);
  const auto commit = stage.commit.load(std::memory_order_relaxed);
  own.is_replaying.store(true);  // sequentially consistent with the load below: see `await_stragglers`
  if (ticket_.load() >> kChunkBits == number) {
    const bool is_dropped = drops_chunks();
    if (!is_dropped) compute(body, chunk, own.memory.get());
    std::atomic<uint64_t>& committed = commits_[chunk].stage;
    uint64_t seen = committed.load(std::memory_order_relaxed);
    if (seen <= number && committed.compare_exchange_strong(seen, number + 1, std::memory_order_relaxed)) {
      if (!is_dropped) commit(body, chunk, own.memory.get());
      complete_chunk(stage, number);
    }
  }
  own.is_replaying.store(false, std::memory_order_release);
}

// Computes what others have claimed and not committed.
void ThreadPool::replay(uint64_t number, int worker) {
  Stage& stage = ring_[number % kRingSize];
  const uint32_t num_chunks = stage.num_chunks.load(std::memory_order_relaxed);
  for (uint32_t chunk = 0; chunk < num_chunks; ++chunk) {
    if (ticket_.load(std::memory_order_acquire) >> kChunkBits != number) return;
    if (commits_[chunk].stage.load(std::memory_order_relaxed) <= number) {
      compute_chunk(stage, number, chunk, worker);
    }
  }
}

// The last one opens the next stage.
void ThreadPool::complete_chunk(Stage& stage, uint64_t number) {
  const uint32_t num_chunks = stage.num_chunks.load(std::memory_order_relaxed);
  if (stage.num_done.fetch_add(1, std::memory_order_acq_rel) + 1 != num_chunks) return;
  opened_at_.store(now().count(), std::memory_order_relaxed);
  ticket_.store((number + 1) << kChunkBits);
  wake_sleepers();
}

// Returns when what kept this thread from a chunk is over: after spinning, replaying or sleeping.
void ThreadPool::await_progress(const Attempt& attempt, int worker) {
  const auto has_moved = [this, &attempt] {
    if (attempt.outcome == Outcome::empty) return num_queued_.load() != attempt.stage;
    return ticket_.load() >> kChunkBits != attempt.stage;
  };
  const auto began = now();
  const auto patience =
      std::max(kMinPatience, began - std::chrono::nanoseconds(opened_at_.load(std::memory_order_relaxed)));
  bool may_replay = attempt.outcome == Outcome::exhausted && attempt.is_replayable;
  for (;;) {
    for (int i = 0; i < kSpinsPerClockRead; ++i) {
      if (has_moved()) return;
      relax();
    }
    const auto waited = now() - began;
    if (may_replay && waited > patience) {
      replay(attempt.stage, worker);
      may_replay = false;
    }
    if (waited > kSpinTime && !may_replay) break;
  }
  num_sleepers_.fetch_add(1);
  const uint32_t wake_count = wake_count_.load();
  // Whoever changes something after this look sees the sleeper: all of it is sequentially consistent.
  if (!has_moved() && !is_stopping_.load()) wake_count_.wait(wake_count);
  num_sleepers_.fetch_sub(1);
}

void ThreadPool::wake_sleepers() {
  if (num_sleepers_.load() == 0) return;
  wake_count_.fetch_add(1);
  wake_count_.notify_all();
}

// A thread that starts to compute after this has looked finds its stage over and reads nothing.
void ThreadPool::await_stragglers() {
  for (int worker = 0; worker < num_threads(); ++worker) {
    while (workers_[worker].is_replaying.load()) std::this_thread::sleep_for(kSpinTime);
  }
}

bool ThreadPool::drops_chunks() const {
  if (has_failed_.load(std::memory_order_relaxed)) return true;
  const std::atomic<bool>* const is_cancelled = is_cancelled_.load(std::memory_order_relaxed);
  return is_cancelled != nullptr && is_cancelled->load(std::memory_order_relaxed);
}

void ThreadPool::keep_exception() {
  const std::lock_guard lock(exception_mutex_);
  if (exception_ == nullptr) exception_ = std::current_exception();
  has_failed_.store(true, std::memory_order_relaxed);
}

}  // namespace autoglm
