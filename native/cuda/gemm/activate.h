// Arguments and launch of activate.cu.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// The nonlinearity of an MLP by itself, where low-rank additions come between a product and it.
struct ActivateArgs {
  const float* in = nullptr;  // [num_rows, num_cols], gated [num_rows, 2 num_cols] in the order of gated_row
  Bf16* out = nullptr;        // [num_rows, num_cols]
  int64_t in_stride = 0;      // elements
  int64_t out_stride = 0;
  int32_t num_rows = 0;
  int32_t num_cols = 0;  // gated: a multiple of 8
  bool is_gated = false;
  Activation activation = Activation::silu;
};

LaunchShape activate_launch(const ActivateArgs& args);

}  // namespace autoglm::cuda
