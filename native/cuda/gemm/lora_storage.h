// How the blocks of lora.cu share its work, for the kernels and their launchers.
#pragma once

#include "cuda/gemm/lora.h"

namespace autoglm::cuda {

inline constexpr int kShrinkRows = 4;  // of one block
inline constexpr int kExpandThreads = 128;
static_assert(kLoraRows % kShrinkRows == 0);

}  // namespace autoglm::cuda
