// Arguments and launch of norm.cu.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Fields as in NormParams (base/op_params.h); `out_bf16` stands where the CPU writes int8.
struct NormArgs {
  const float* in = nullptr;            // [>= num_rows, num_cols]
  const int32_t* input_rows = nullptr;  // optional [num_rows]
  const float* weight = nullptr;        // [num_cols]
  const float* bias = nullptr;          // optional [num_cols]
  const float* residual = nullptr;      // optional [num_rows, num_cols]
  float* out = nullptr;                 // optional [num_rows, num_cols]
  Bf16* out_bf16 = nullptr;             // optional [num_rows, num_cols]
  int32_t num_rows = 0;
  int32_t num_cols = 0;
  float epsilon = 0;
  float residual_scale = 1;
  NormKind kind = NormKind::rms;
  bool has_unit_offset = false;
};

LaunchShape norm_launch(const NormArgs& args);

}  // namespace autoglm::cuda
