// Starts a kernel by its name, as the driver would, on the emulator.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/half.h"
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"
#include "emulator/emulated_kernels.h"
#include "emulator/sanitizers.h"
#include "emulator/thread_block.h"

namespace autoglm::test {

// A schedule for the `seed`th case: the three orders in turn.
inline emulator::Schedule schedule_of(uint64_t seed) {
  return {static_cast<emulator::Order>(seed % 3), seed};
}

template <typename Args>
void launch(const cuda::LaunchShape& shape, const Args& args, const emulator::Schedule& schedule) {
  if (shape.kernel == nullptr) return;
  const emulator::EmulatedKernel* kernel = emulator::find_kernel(shape.kernel);
  ASSERT_NE(kernel, nullptr) << "no kernel is named " << shape.kernel;
  ASSERT_EQ(kernel->argument_bytes, sizeof(Args)) << shape.kernel << " takes another argument";
  emulator::run_kernel({{shape.grid_x, shape.grid_y, 1}, shape.num_threads, shape.shared_bytes}, schedule,
                       [&] { kernel->run(&args); });
}

// |found - expected| / |expected|, both as Euclidean norms; NaN where a value is.
template <typename Found, typename Expected>
double relative_distance(const std::vector<Found>& found, const std::vector<Expected>& expected) {
  double distance = 0;
  double length = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    distance += difference * difference;
    length += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return length == 0 ? std::sqrt(distance) : std::sqrt(distance / length);
}

inline float to_float(cuda::Bf16 value) { return autoglm::bf16_to_float(value.bits); }
inline std::vector<float> to_floats(const std::vector<cuda::Bf16>& values) {
  std::vector<float> out;
  for (const cuda::Bf16 each : values) out.push_back(to_float(each));
  return out;
}
inline cuda::Bf16 to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline std::vector<cuda::Bf16> to_bf16s(const std::vector<float>& values) {
  std::vector<cuda::Bf16> out;
  for (const float each : values) out.push_back(to_bf16(each));
  return out;
}

// Random shapes per kernel; sanitizers run some of them only, the same in every build.
inline constexpr int kNumShapes = emulator::kIsSanitized ? 20 : 200;
// Relative distances allowed: one rounding to bf16 is 2^-9 at most, a chain of f32 operations some 2^-20.
inline constexpr double kBf16Tolerance = 1e-2;
inline constexpr double kF32Tolerance = 1e-5;

}  // namespace autoglm::test
