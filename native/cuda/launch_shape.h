// How a kernel is started: its entry in the embedded module and the size of its grid. Each operation has a
// pure function from its arguments to this.
#pragma once

#include <cstddef>
#include <cstdint>

namespace autoglm::cuda {

struct LaunchShape {
  const char* kernel = nullptr;  // entry point; null when there is nothing to do
  unsigned grid_x = 1;
  unsigned grid_y = 1;
  unsigned num_threads = 0;
  size_t shared_bytes = 0;  // of the kernel's shared_storage
};

constexpr int64_t ceil_div(int64_t count, int64_t size) { return (count + size - 1) / size; }

}  // namespace autoglm::cuda
