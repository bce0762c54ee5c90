// The shared memory of repack_floats.cu, for the kernel and its launcher.
#pragma once

#include <cstdint>

#include "base/packed_matrix.h"

namespace autoglm::cuda {

inline constexpr int kRepackCols = 64;  // 128 bytes of a row
inline constexpr int kRepackPairs = kRepackCols / 2;
inline constexpr int kRepackThreads = 256;
static_assert(kRepackThreads * 4 == kRepackPairs * kPanelRows);  // a thread writes four pairs

struct RepackStorage {
  uint32_t pairs[kPanelRows][kRepackPairs + 1];  // an odd stride: rows begin in different banks
};

}  // namespace autoglm::cuda
