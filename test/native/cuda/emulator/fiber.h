// A stack of its own that the scheduler of a thread block resumes and that hands control back when it waits.
// The sanitizers are told of every switch: AddressSanitizer to know the stack, ThreadSanitizer to see two
// fibers as two threads, between which a switch orders nothing. A run begins after all that the scheduler did
// before; nothing else orders it.
#pragma once

#include <cstddef>
#include <functional>

namespace autoglm::emulator {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Prepares a run of `body`. An earlier run must have returned.
  void start(std::function<void()> body);
  // Called by the scheduler: runs the fiber until it suspends or its body returns.
  void resume();
  // Called inside the fiber.
  void suspend();

 private:
  static void enter();

  std::byte* stack_ = nullptr;
  void* own_context_ = nullptr;        // where the fiber goes on
  void* scheduler_context_ = nullptr;  // where the scheduler goes on
  std::function<void()> body_;
  void* asan_own_ = nullptr;
  const void* asan_scheduler_bottom_ = nullptr;
  size_t asan_scheduler_size_ = 0;
  void* tsan_own_ = nullptr;
  void* tsan_scheduler_ = nullptr;
};

}  // namespace autoglm::emulator
