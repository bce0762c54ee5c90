// The compute pool: threads made once, stages split in chunks that are handed out by an atomic counter, one
// barrier at the end of each stage. Workers spin for some tens of microseconds after a stage, then sleep: an
// idle pool costs nothing. A chunk must be a pure function of the stage's inputs, so that it could run twice.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace autoglm {

class ThreadPool {
 public:
  // The calling thread works too: `num_threads` - 1 threads are started. Throws invalid_parameter unless it
  // is in 1..1024.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(chunk, worker) once for each chunk in 0..num_chunks-1 and returns when all are done; worker is
  // in 0..num_threads-1 and names the thread, for scratch memory of its own. The first exception of a body is
  // rethrown here; chunks not begun by then are dropped. One stage at a time: only one thread may call this,
  // and bodies may not.
  template <typename Body>
  void run(int64_t num_chunks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_stage(
        num_chunks,
        [](void* context, int64_t chunk, int worker) { (*static_cast<Plain*>(context))(chunk, worker); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

 private:
  using ChunkFunction = void (*)(void* context, int64_t chunk, int worker);

  void run_stage(int64_t num_chunks, ChunkFunction function, void* context);
  void work(int worker);
  void take_chunks(uint32_t stage, int worker);
  void keep_exception();
  void stop();

  // A worker may still be waking up when the others have finished a stage, so nothing waits for it: the stage
  // number travels with the chunk counter in `ticket_`, and a chunk is claimed only while its stage is the
  // current one. That also makes the three fields safe to read: the ticket is closed before they change,
  // so a successful claim proves that they belong to the claimed stage.
  std::atomic<ChunkFunction> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> num_chunks_{0};

  alignas(64) std::atomic<uint64_t> ticket_{0};    // stage << 32 | next chunk
  alignas(64) std::atomic<uint32_t> num_done_{0};  // chunks of the current stage
  alignas(64) std::atomic<uint32_t> stage_{0};     // what idle workers watch
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> has_failed_{false};
  std::mutex exception_mutex_;
  std::exception_ptr exception_;
  std::vector<std::thread> threads_;
};

}  // namespace autoglm
