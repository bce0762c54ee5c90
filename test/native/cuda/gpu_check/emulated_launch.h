// Stands before test/native/cuda/emulated_launch.h: the tests of every kernel, compiled as they are, start
// their kernels through the driver, on a GPU or on the fake one.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "device_launch.h"

#define launch launch_on_emulator
#define kNumShapes kNumEmulatedShapes
#include "../emulated_launch.h"
#undef launch
#undef kNumShapes

namespace autoglm::test {

inline const int kNumShapes = gpu_check::num_shapes();

// The device has an order of its own.
template <typename Args>
void launch(const cuda::LaunchShape& shape, const Args& args, const emulator::Schedule&) {
  constexpr bool kHasTables = requires { args.adapters; };
  if (shape.kernel == nullptr) return;
  gpu_check::launch_on_device(
      shape, &args, sizeof(Args),
      kHasTables ? gpu_check::Tables::hold_addresses : gpu_check::Tables::hold_no_addresses);
}

}  // namespace autoglm::test
