// Arguments and launch of heads_product.cu: the small products of latent attention, one matrix per head.
#pragma once

#include <cstdint>

#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// out[r, h, i] = sum over j of w[h, i, j] * in[r, h, j], the input rounded to bf16.
// Strides are elements from one row, or one head of a row, to the next.
struct HeadsProductArgs {
  const Bf16* w = nullptr;    // [num_heads][n][k], 16-byte aligned
  const float* in = nullptr;  // exactly one of the two inputs, its vectors 16-byte aligned
  const Bf16* in_bf16 = nullptr;
  float* out = nullptr;  // exactly one of the two outputs, aligned to two elements
  Bf16* out_bf16 = nullptr;
  int64_t in_row_stride = 0;  // multiples of 4, for bf16 of 8
  int64_t in_head_stride = 0;
  int64_t out_row_stride = 0;  // even
  int64_t out_head_stride = 0;
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t n = 0;  // outputs of a head, a multiple of 8
  int32_t k = 0;  // inputs of a head, a multiple of 8
};

LaunchShape heads_product_launch(const HeadsProductArgs& args);

}  // namespace autoglm::cuda
