// Arguments and launch of copy_heads.cu.
#pragma once

#include <cstdint>

#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// out[r, h, i] = in[r, h, i] for i in 0..count-1. The pointers are those of the first column to copy: what
// CopyHeadsParams (ops/copy_heads.h) calls `first` is in them. Strides are elements from one row, or one head
// of a row, to the next. Input and output do not overlap.
struct CopyHeadsArgs {
  const float* in = nullptr;  // exactly one of the two inputs
  const Bf16* in_bf16 = nullptr;
  float* out = nullptr;  // exactly one of the two outputs
  Bf16* out_bf16 = nullptr;
  int64_t in_row_stride = 0;
  int64_t in_head_stride = 0;
  int64_t out_row_stride = 0;
  int64_t out_head_stride = 0;
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t count = 0;
};

LaunchShape copy_heads_launch(const CopyHeadsArgs& args);

}  // namespace autoglm::cuda
