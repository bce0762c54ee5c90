// Shared memory as a driver gives it: what a kernel declares up to 48 KB is static and not the launch's
// business, more is dynamic and has to be what was launched with.
#pragma once

#include <cstddef>
#include <memory>

#include "emulator/thread_block.h"

namespace autoglm::cuda::fake {

// That of the one kernel that runs while this lives. The linker sends the emulator's `shared_memory` here
// (--wrap in CMakeLists.txt): the emulator itself demands the launch's size for either kind.
class SharedMemory {
 public:
  explicit SharedMemory(size_t dynamic_bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // For the block that runs; fresh, that is NaN, for each.
  std::byte* of_block(size_t num_bytes);

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  size_t dynamic_bytes_;
  size_t num_bytes_ = 0;
  emulator::Grid block_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace autoglm::cuda::fake
