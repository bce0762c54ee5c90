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

constexpr int kCacheLineBytes = 64;
constexpr int kPrefetchedLines = 7;  // of a stage: what is behind them is rarely part of a body

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
    workers_[worker].memory = {
        static_cast<std::byte*>(operator new(kReplayBytes + kPreparedBytes, kCacheLine)),
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
  stage.num_shares.store(
      static_cast<uint32_t>(std::min(num_used_.load(std::memory_order_relaxed), num_threads())),
      std::memory_order_relaxed);
  stage.run.store(calls.run, std::memory_order_relaxed);
  stage.compute.store(calls.compute, std::memory_order_relaxed);
  stage.commit.store(calls.commit, std::memory_order_relaxed);
  stage.prepare.store(calls.prepare, std::memory_order_relaxed);
  stage.done.store(number << kChunkBits, std::memory_order_relaxed);
  stage.body_words.store(static_cast<uint32_t>((num_bytes + sizeof(Word) - 1) / sizeof(Word)),
                         std::memory_order_relaxed);
  store_body(stage.body, body, num_bytes);
  if (calls.compute != nullptr && number == current_.load(std::memory_order_relaxed) >> 1) {
    opened_at_.store(now().count(), std::memory_order_relaxed);
  }
  num_queued_.store(number + 1);  // sequentially consistent, so that `wake_sleepers` misses nobody
  wake_sleepers();
}

// Without other threads there is nothing to queue for.
void ThreadPool::run_here(int64_t num_chunks, const Calls& calls, const void* body) {
  std::byte* memory = workers_[0].memory.get();
  if (calls.prepare != nullptr && !drops_chunks()) calls.prepare(body, memory + kReplayBytes);
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
  while (current_.load(std::memory_order_acquire) >> 1 <= number) {
    const Attempt attempt = try_chunk(0);
    if (attempt.outcome == Outcome::empty) break;
    if (attempt.outcome == Outcome::exhausted) await_progress(attempt, 0);
  }
  report_finished(0);  // of a later stage: the others need not wait for this thread to come back
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

// Takes a chunk of the current stage and runs it: of the worker's own share, or else of the next share that
// has any left.
ThreadPool::Attempt ThreadPool::try_chunk(int worker) {
  View view{};
  view.word = current_.load(std::memory_order_acquire);
  view.number = view.word >> 1;
  // Others have ended the stage of which this thread has chunks.
  if (workers_[worker].is_replaying.load(std::memory_order_relaxed) &&
      workers_[worker].copied_stage != view.number + 1) {
    report_finished(worker);
  }
  if (view.number == num_queued_.load(std::memory_order_acquire)) return {Outcome::empty, view.word, false};
  if (view.word % 2 == 1) return {Outcome::exhausted, view.word, false};
  view.stage = &ring_[view.number % kRingSize];
  view.num_chunks = view.stage->num_chunks.load(std::memory_order_acquire);
  view.num_shares = view.stage->num_shares.load(std::memory_order_acquire);
  view.is_replayable = view.stage->compute.load(std::memory_order_acquire) != nullptr;
  // The place may have been filled again meanwhile.
  if (current_.load(std::memory_order_relaxed) != view.word) return {Outcome::ran, view.word, false};
  const Attempt exhausted{Outcome::exhausted, view.word, view.is_replayable};
  if (static_cast<uint32_t>(worker) >= view.num_shares) return exhausted;
  for (uint32_t i = 0; i < view.num_shares; ++i) {
    uint32_t share = static_cast<uint32_t>(worker) + i;
    if (share >= view.num_shares) share -= view.num_shares;
    if (claim_from(view, share, worker)) return {Outcome::ran, view.word, view.is_replayable};
    if (i == 0) report_finished(worker);
  }
  return exhausted;
}

// A chunk that nobody took keeps its stage current, and every taking changes the share's word: so a claim
// that succeeds is of the stage that was looked at.
bool ThreadPool::claim_from(const View& view, uint32_t share, int worker) {
  const auto first_of = [&view](uint64_t which) {
    return static_cast<uint32_t>(uint64_t{view.num_chunks} * which / view.num_shares);
  };
  const uint32_t first = first_of(share);
  const uint32_t size = first_of(uint64_t{share} + 1) - first;
  std::atomic<uint64_t>& taken = workers_[share].taken;
  uint64_t word = taken.load(std::memory_order_acquire);
  for (;;) {
    const uint64_t stage_of_word = word >> kChunkBits;
    if (stage_of_word > view.number) return false;
    const auto num_taken =
        stage_of_word < view.number ? 0 : static_cast<uint32_t>(word & ((uint64_t{1} << kChunkBits) - 1));
    if (num_taken >= size) return false;
    const uint64_t next = view.number << kChunkBits | (num_taken + 1);
    if (!taken.compare_exchange_weak(word, next, std::memory_order_acq_rel)) continue;
    const bool is_done = view.is_replayable
                             ? compute_chunk(*view.stage, view.number, first + num_taken, worker)
                             : (run_chunk(*view.stage, first + num_taken, worker), true);
    if (is_done) count_finished(view.number, worker);
    // At the end of a share, or of another's, others may be waiting for the count.
    if (num_taken + 1 == size || share != static_cast<uint32_t>(worker)) report_finished(worker);
    return true;
  }
}

// The chunk is this thread's alone, so its stage stays current until it is done.
void ThreadPool::run_chunk(Stage& stage, uint32_t chunk, int worker) {
  if (drops_chunks()) return;
  try {
    stage.run.load(std::memory_order_relaxed)(stage.body, chunk, worker);
  } catch (...) {
    keep_exception();
  }
}

// Once for all of a worker's chunks of a stage, which it may still be computing when the place is filled
// again.
void ThreadPool::copy_stage(Stage& stage, uint64_t number, int worker) {
  Worker& own = workers_[worker];
  own.calls.compute = stage.compute.load(std::memory_order_relaxed);
  own.calls.commit = stage.commit.load(std::memory_order_relaxed);
  own.calls.prepare = stage.prepare.load(std::memory_order_relaxed);
  load_body(own.body, stage.body, stage.body_words.load(std::memory_order_relaxed));
  own.copied_stage = number + 1;
}

// Several threads may be here with the same chunk: each computes it in memory of its own, one commits it.
// True for that one.
bool ThreadPool::compute_chunk(Stage& stage, uint64_t number, uint32_t chunk, int worker) {
  Worker& own = workers_[worker];
  if (own.copied_stage != number + 1) copy_stage(stage, number, worker);
  // Sequentially consistent with the load below: see `await_stragglers`. `report_finished` takes it back.
  if (!own.is_replaying.load(std::memory_order_relaxed)) own.is_replaying.store(true);
  if (current_.load() >> 1 != number) return false;
  const bool is_dropped = drops_chunks();
  if (!is_dropped) {
    if (own.calls.prepare != nullptr && own.prepared_stage != number + 1) {
      own.calls.prepare(own.body, own.memory.get() + kReplayBytes);
      own.prepared_stage = number + 1;
    }
    own.calls.compute(own.body, chunk, own.memory.get());
  }
  std::atomic<uint64_t>& state = commits_[chunk].state;
  uint64_t seen = state.load(std::memory_order_relaxed);
  if (seen > 2 * number || !state.compare_exchange_strong(seen, 2 * number + 1, std::memory_order_relaxed)) {
    return false;
  }
  if (!is_dropped) own.calls.commit(own.body, chunk, own.memory.get());
  state.store(2 * number + 2, std::memory_order_release);
  return true;
}

// Computes what others have taken and not committed. True when the stage is over.
bool ThreadPool::replay(uint64_t word, int worker) {
  const uint64_t number = word >> 1;
  Stage& stage = ring_[number % kRingSize];
  const uint32_t num_chunks = stage.num_chunks.load(std::memory_order_acquire);
  for (uint32_t chunk = 0; chunk < num_chunks; ++chunk) {
    if (current_.load(std::memory_order_acquire) != word) return true;
    if (commits_[chunk].state.load(std::memory_order_relaxed) <= 2 * number &&
        compute_chunk(stage, number, chunk, worker)) {
      count_finished(number, worker);
    }
    report_finished(worker);
  }
  for (uint32_t chunk = 0; chunk < num_chunks; ++chunk) {
    if (commits_[chunk].state.load(std::memory_order_acquire) == 2 * number + 1) return false;
  }
  // Who committed a chunk and lost its core before it could say so is not waited for either.
  open_next(word, worker);
  return true;
}

void ThreadPool::count_finished(uint64_t number, int worker) {
  Worker& own = workers_[worker];
  if (own.finished_stage != number) own.num_finished = 0;  // of a stage that others ended
  own.finished_stage = number;
  ++own.num_finished;
}

// Adds what the worker has finished to its stage's count, once for several chunks: the word travels between
// the cores. Who makes the count full opens the next stage.
void ThreadPool::report_finished(int worker) {
  Worker& own = workers_[worker];
  if (own.is_replaying.load(std::memory_order_relaxed))
    own.is_replaying.store(false, std::memory_order_release);
  const uint32_t count = std::exchange(own.num_finished, 0);
  if (count == 0) return;
  const uint64_t number = own.finished_stage;
  Stage& stage = ring_[number % kRingSize];
  uint64_t done = stage.done.load(std::memory_order_relaxed);
  do {
    if (done >> kChunkBits != number) return;
  } while (!stage.done.compare_exchange_weak(done, done + count, std::memory_order_acq_rel));
  const uint64_t num_done = (done + count) & ((uint64_t{1} << kChunkBits) - 1);
  if (num_done == stage.num_chunks.load(std::memory_order_relaxed)) open_next(number << 1, worker);
}

// Opens the stage after that of `word`, unless another thread did. A stage of one chunk that cannot be
// replayed is run here and now: handing it over would take longer.
void ThreadPool::open_next(uint64_t word, int worker) {
  for (;;) {
    const uint64_t number = (word >> 1) + 1;
    Stage& stage = ring_[number % kRingSize];
    const bool is_queued = number < num_queued_.load(std::memory_order_acquire);
    const bool is_replayable = is_queued && stage.compute.load(std::memory_order_relaxed) != nullptr;
    const bool is_single =
        is_queued && !is_replayable && stage.num_chunks.load(std::memory_order_relaxed) == 1;
    if (is_replayable) opened_at_.store(now().count(), std::memory_order_relaxed);
    const uint64_t next = number << 1 | (is_single ? 1 : 0);
    if (!current_.compare_exchange_strong(word, next)) return;
    if (!is_single) break;
    run_chunk(stage, 0, worker);
    word = next;
  }
  wake_sleepers();
}

// Returns when what kept this thread from a chunk is over: after spinning, replaying or sleeping.
void ThreadPool::await_progress(const Attempt& attempt, int worker) {
  const auto has_moved = [this, &attempt] {
    if (attempt.outcome == Outcome::empty) return num_queued_.load() != attempt.word >> 1;
    return current_.load() != attempt.word;
  };
  if (has_moved()) return;
  prefetch_stage((attempt.word >> 1) + 1);
  for (int i = 0; i < kSpinsPerClockRead; ++i) {
    relax();
    if (has_moved()) return;
  }
  auto began = now();
  const auto patience =
      std::max(kMinPatience, began - std::chrono::nanoseconds(opened_at_.load(std::memory_order_relaxed)));
  bool may_replay = attempt.outcome == Outcome::exhausted && attempt.is_replayable;
  for (;;) {
    for (int i = 0; i < kSpinsPerClockRead; ++i) {
      relax();
      if (has_moved()) return;
    }
    const auto waited = now() - began;
    if (may_replay && waited > patience) {
      if (replay(attempt.word, worker)) return;
      began = now();  // somebody is in the middle of a commit
      continue;
    }
    if (waited > kSpinTime && !may_replay) break;
  }
  num_sleepers_.fetch_add(1);
  const uint32_t wake_count = wake_count_.load();
  // Whoever changes something after this look sees the sleeper: all of it is sequentially consistent.
  if (!has_moved() && !is_stopping_.load()) wake_count_.wait(wake_count);
  num_sleepers_.fetch_sub(1);
}

// What the thread that queued the stage wrote is fetched while this one waits for the stage to open.
void ThreadPool::prefetch_stage(uint64_t number) const {
  if (number >= num_queued_.load(std::memory_order_relaxed)) return;
  const auto* const lines = reinterpret_cast<const std::byte*>(&ring_[number % kRingSize]);
  for (int i = 0; i < kPrefetchedLines; ++i) __builtin_prefetch(lines + i * kCacheLineBytes);
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
