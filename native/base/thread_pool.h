// The compute pool: threads made once that carry out a queue of stages in order. A stage is a number of
// chunks and one function. Each thread has a share of a stage's chunks and helps with the others' when it is
// through; whoever finishes a stage opens the next. So no thread is special: the one that queued the stages
// may lose its core for a time slice while the others go on. Workers spin for some tens of microseconds when
// there is nothing to do, then sleep: an idle pool costs nothing. docs/kernels/threads.md tells why it is so.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/numa.h"

namespace autoglm {

class ThreadPool {
 public:
  // A queued body is copied; it may be this big.
  static constexpr size_t kMaxBodyBytes = 512;
  // Private memory of each thread for the chunks of replayable stages.
  static constexpr size_t kReplayBytes = 64 * 1024;
  // Behind it, what a body with `prepare` makes before its thread's first chunk.
  static constexpr size_t kPreparedBytes = 32 * 1024;
  // Chunks of a replayable stage.
  static constexpr int64_t kMaxReplayChunks = 256;

  // The calling thread works too: `num_threads` - 1 threads are started. Throws invalid_parameter unless it
  // is in 1..1024.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Where there are several memory nodes, keeps the calling thread on the first one, as the pool's own
  // threads are spread over all of them. For a thread that does nothing but queue and finish stages.
  void place_caller() const { place_worker(0, num_threads()); }

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // From the next stage on only this many threads, 1..num_threads, take chunks; the others sleep. Called by
  // the thread that queues, while nothing is queued.
  void use_threads(int num_threads);

  // Queues a stage: body(chunk, worker) once for each chunk in 0..num_chunks-1, after all stages before it;
  // worker is in 0..num_threads-1 and names the thread, for scratch memory of its own. The body is copied,
  // what it points to must live until `finish`. One thread at a time may queue, and bodies may not.
  template <typename Body>
  void enqueue(int64_t num_chunks, const Body& body) {
    const auto call = [](const void* copy, int64_t chunk, int worker) {
      (*static_cast<const Body*>(copy))(chunk, worker);
    };
    push(num_chunks, {.run = call, .compute = nullptr, .commit = nullptr}, body);
  }

  // The same for a body with
  //   void compute(int64_t chunk, std::byte* memory) const   memory: kReplayBytes, aligned to 64
  //   void commit(int64_t chunk, const std::byte* memory) const
  // where `compute` writes nothing but `memory` and `commit` is short, and, if it has it,
  //   void prepare(std::byte* prepared) const   prepared: kPreparedBytes, memory + kReplayBytes of `compute`
  // which every thread calls before its first chunk of the stage, and which writes nothing else. When a
  // thread loses its core in the middle of the stage's last chunks, others compute them again and go on. The
  // late thread may then still be reading the body's inputs, whatever they have become: `await_stragglers`
  // before they are freed.
  template <typename Body>
  void enqueue_replayable(int64_t num_chunks, const Body& body) {
    const auto call = [](const void* copy, int64_t chunk, std::byte* memory) {
      static_cast<const Body*>(copy)->compute(chunk, memory);
    };
    const auto commit = [](const void* copy, int64_t chunk, const std::byte* memory) {
      static_cast<const Body*>(copy)->commit(chunk, memory);
    };
    Calls calls{.run = nullptr, .compute = call, .commit = commit};
    if constexpr (requires(std::byte* prepared) { body.prepare(prepared); }) {
      calls.prepare = [](const void* copy, std::byte* prepared) {
        static_cast<const Body*>(copy)->prepare(prepared);
      };
    }
    push(num_chunks, calls, body);
  }

  // Works until every queued stage is done. The first exception of a body is rethrown here; chunks not begun
  // by then are dropped, those of later stages too.
  void finish();

  // Waits for the queued stages without running chunks not begun yet; forgets exceptions.
  void drop() noexcept;

  // enqueue and finish in one; the body is not copied.
  template <typename Body>
  void run(int64_t num_chunks, Body&& body) {
    const auto* borrowed = std::addressof(body);
    enqueue(num_chunks, [borrowed](int64_t chunk, int worker) { (*borrowed)(chunk, worker); });
    finish();
  }

  // From now on chunks are dropped while `is_cancelled` is true; null for never.
  void set_cancellation(const std::atomic<bool>* is_cancelled) {
    is_cancelled_.store(is_cancelled, std::memory_order_relaxed);
  }

  // Returns when no thread reads any more what replayable stages were given. Call it after `finish`.
  void await_stragglers();

 private:
  struct Calls {
    void (*run)(const void* body, int64_t chunk, int worker);
    void (*compute)(const void* body, int64_t chunk, std::byte* memory);
    void (*commit)(const void* body, int64_t chunk, const std::byte* memory);
    void (*prepare)(const void* body, std::byte* prepared) = nullptr;
  };

  // A place in the ring of queued stages. It is filled again only when its stage is over, but a late thread
  // may read it at any time: so all is atomic, and what was read counts only if the stage is still current
  // afterwards.
  struct alignas(64) Stage {
    std::atomic<uint64_t> done{0};  // stage number << kChunkBits | chunks reported as done
    std::atomic<uint32_t> num_chunks{0};
    std::atomic<uint32_t> num_shares{0};
    std::atomic<decltype(Calls::run)> run{nullptr};
    std::atomic<decltype(Calls::compute)> compute{nullptr};
    std::atomic<decltype(Calls::commit)> commit{nullptr};
    std::atomic<decltype(Calls::prepare)> prepare{nullptr};
    std::atomic<uint32_t> body_words{0};
    alignas(64) std::byte body[kMaxBodyBytes];
  };

  struct Worker {
    // Stage number << kChunkBits | chunks of this worker's share that were taken; of an earlier stage: none.
    alignas(64) std::atomic<uint64_t> taken{0};
    // What the worker alone writes.
    alignas(64) std::atomic<bool> is_replaying{false};  // reads what a replayable stage was given
    uint64_t finished_stage = 0;
    uint32_t num_finished = 0;    // chunks of that stage, not yet reported
    uint64_t copied_stage = 0;    // 1 + the replayable stage whose functions and body it has
    uint64_t prepared_stage = 0;  // 1 + the stage that it has called `prepare` of
    Calls calls{};
    std::unique_ptr<std::byte[], void (*)(std::byte*)> memory{nullptr, nullptr};
    alignas(64) std::byte body[kMaxBodyBytes];
  };

  // Of the chunk of that number in the last replayable stage that got so far: 2 * stage + 1 while somebody
  // commits it, 2 * stage + 2 from then on.
  struct alignas(64) Commit {
    std::atomic<uint64_t> state{0};
  };

  // What a thread read of the current stage; consistent.
  struct View {
    uint64_t word;  // current_
    uint64_t number;
    Stage* stage;
    uint32_t num_chunks;
    uint32_t num_shares;
    bool is_replayable;
  };

  enum class Outcome { ran, exhausted, empty };
  struct Attempt {
    Outcome outcome;
    uint64_t word;
    bool is_replayable;
  };

  template <typename Body>
  void push(int64_t num_chunks, const Calls& calls, const Body& body) {
    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) <= kMaxBodyBytes);
    static_assert(alignof(Body) <= 64);
    push_copy(num_chunks, calls, std::addressof(body), sizeof(Body));
  }
  void push_copy(int64_t num_chunks, const Calls& calls, const void* body, size_t num_bytes);
  void run_here(int64_t num_chunks, const Calls& calls, const void* body);

  void work_until_past(uint64_t number);
  void await_queued();
  void place_worker(int worker, int num_threads) const;
  void work(int worker);
  Attempt try_chunk(int worker);
  bool claim_from(const View& view, uint32_t share, int worker);
  void run_chunk(Stage& stage, uint32_t chunk, int worker);
  void copy_stage(Stage& stage, uint64_t number, int worker);
  bool compute_chunk(Stage& stage, uint64_t number, uint32_t chunk, int worker);
  bool replay(uint64_t word, int worker);
  void count_finished(uint64_t number, int worker);
  void report_finished(int worker);
  void open_next(uint64_t word, int worker);
  void await_progress(const Attempt& attempt, int worker);
  void prefetch_stage(uint64_t number) const;
  void wake_sleepers();
  bool drops_chunks() const;
  void keep_exception();
  void stop();

  static constexpr uint64_t kRingSize = 256;
  static constexpr int kChunkBits = 24;

  std::vector<NumaNode> nodes_;
  std::unique_ptr<Stage[]> ring_;
  std::unique_ptr<Worker[]> workers_;
  std::unique_ptr<Commit[]> commits_;

  // Number of the current stage << 1; odd while the thread that opened it runs its only chunk itself.
  alignas(64) std::atomic<uint64_t> current_{0};
  // When the current stage was opened, if it is replayable; steady clock, nanoseconds.
  std::atomic<int64_t> opened_at_{0};
  alignas(64) std::atomic<uint64_t> num_queued_{0};
  alignas(64) std::atomic<uint32_t> num_sleepers_{0};
  std::atomic<uint32_t> wake_count_{0};  // what sleepers watch
  std::atomic<int> num_used_;            // workers with lower numbers take chunks
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> has_failed_{false};
  std::atomic<const std::atomic<bool>*> is_cancelled_{nullptr};
  std::mutex exception_mutex_;
  std::exception_ptr exception_;
  std::vector<std::thread> threads_;
};

}  // namespace autoglm
