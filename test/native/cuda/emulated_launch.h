// Starts a kernel by its name, as the driver would, on the emulator.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/half.h"
#include "cuda/attention.h"
#include "cuda/embedding.h"
#include "cuda/kv_append.h"
#include "cuda/launch_shape.h"
#include "cuda/norm.h"
#include "emulator/sanitizers.h"
#include "emulator/thread_block.h"

namespace autoglm::test {

template <typename Args>
struct KernelEntry {
  const char* name;
  void (*run)(Args);
};

template <typename Args>
std::vector<KernelEntry<Args>> kernel_entries();

#define AUTOGLM_ENTRY(entry, Args) extern "C" void entry(Args);
#include "kernel_entries.def"
#undef AUTOGLM_ENTRY

#define AUTOGLM_ENTRIES_OF(Args)                                      \
  template <>                                                         \
  inline std::vector<KernelEntry<Args>> kernel_entries<Args>() {      \
    std::vector<KernelEntry<Args>> all;                               \
    const auto add = [&]<typename Other>(KernelEntry<Other> each) {   \
      if constexpr (std::is_same_v<Other, Args>) all.push_back(each); \
    };                                                                \
    add_entries(add);                                                 \
    return all;                                                       \
  }

template <typename Add>
void add_entries(const Add& add) {
#define AUTOGLM_ENTRY(entry, Args) add(KernelEntry<Args>{#entry, &entry});
#include "kernel_entries.def"
#undef AUTOGLM_ENTRY
}

AUTOGLM_ENTRIES_OF(cuda::NormArgs)
AUTOGLM_ENTRIES_OF(cuda::KvAppendArgs)
AUTOGLM_ENTRIES_OF(cuda::EmbeddingArgs)
AUTOGLM_ENTRIES_OF(cuda::AttentionArgs)
#undef AUTOGLM_ENTRIES_OF

// A schedule for the `seed`th case: the three orders in turn.
inline emulator::Schedule schedule_of(uint64_t seed) {
  return {static_cast<emulator::Order>(seed % 3), seed};
}

template <typename Args>
void launch(const cuda::LaunchShape& shape, const Args& args, const emulator::Schedule& schedule) {
  if (shape.kernel == nullptr) return;
  for (const KernelEntry<Args>& entry : kernel_entries<Args>()) {
    if (std::strcmp(entry.name, shape.kernel) != 0) continue;
    emulator::run_kernel({{shape.grid_x, shape.grid_y, 1}, shape.num_threads, shape.shared_bytes}, schedule,
                         [&] { entry.run(args); });
    return;
  }
  FAIL() << "no kernel is named " << shape.kernel;
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
