// Arguments and launch of rope_angles.cu.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// What compute_rope_angles (ops/kv_append.h) takes, for several tables at once.
struct RopeAnglesArgs {
  const int32_t* positions = nullptr;        // [num_rows], >= 0
  const int32_t* tables = nullptr;           // optional [num_rows]: the row's table; null: all take table 0
  const double* frequencies = nullptr;       // [tables, num_pairs], radians per position
  const float* attention_factors = nullptr;  // [tables]
  float* cos_sin = nullptr;                  // [num_rows, 2 * num_pairs]
  int32_t num_rows = 0;
  int32_t num_pairs = 0;  // rotary_dim / 2
};

LaunchShape rope_angles_launch(const RopeAnglesArgs& args);

}  // namespace autoglm::cuda
