// Starts kernels of the driver's device on arguments that point to the host's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "cuda/driver/embedded_kernels.h"
#include "cuda/launch_shape.h"

namespace autoglm::gpu_check {

struct Settings {
  std::string library;  // the driver, a name or path for dlopen
  int device_idx = 0;
  std::span<const cuda::EmbeddedModule> modules;
};

// Before the first launch; opens nothing yet.
void configure(const Settings& settings);
// Lets the device go, so that a leak check of the driver sees nothing. Returns the number of launches.
int64_t close_device();

// Random shapes per test: AUTOGLM_CHECK_SHAPES, or a number for tests without a GPU.
int num_shapes();

// Whether tables that the argument points to hold addresses, too.
enum class Tables : bool { hold_no_addresses, hold_addresses };

// Every word of the argument that is an address of living memory is replaced by that of a copy on the device,
// of exactly the size that was allocated; so are words of its tables. After the kernel the copies are copied
// back, but for those that hold addresses. Throws Error.
void launch_on_device(const cuda::LaunchShape& shape, const void* argument, size_t argument_bytes,
                      Tables tables);

}  // namespace autoglm::gpu_check
