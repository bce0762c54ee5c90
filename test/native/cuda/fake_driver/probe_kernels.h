// Kernels of the fake driver's own, to test with: each shows one thing that a driver has to do, or to notice.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"

namespace autoglm::cuda {

struct ProbeArgs {
  float* out = nullptr;       // [count]
  const float* in = nullptr;  // [count]
  int32_t count = 0;          // at most 64
  float factor = 1;
};

inline constexpr int kProbeThreads = 64;
inline constexpr size_t kProbeDynamicBytes = 60 << 10;

// out = factor * in
inline constexpr LaunchShape kScaleProbe{.kernel = "probe_scale", .num_threads = kProbeThreads};
// The same in reverse order, through more shared memory than is static.
inline constexpr LaunchShape kDynamicProbe{
    .kernel = "probe_dynamic", .num_threads = kProbeThreads, .shared_bytes = kProbeDynamicBytes};
// The same through all of what is static.
inline constexpr size_t kProbeStaticBytes = 48 << 10;
inline constexpr LaunchShape kStaticProbe{
    .kernel = "probe_static", .num_threads = kProbeThreads, .shared_bytes = kProbeStaticBytes};
// Writes out[count].
inline constexpr LaunchShape kOverrunProbe{.kernel = "probe_overrun", .num_threads = kProbeThreads};
// One thread never reaches the barrier.
inline constexpr LaunchShape kDeadlockProbe{.kernel = "probe_deadlock", .num_threads = kProbeThreads};

}  // namespace autoglm::cuda
