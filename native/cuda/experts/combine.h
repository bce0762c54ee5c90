// Arguments and launch of combine.cu.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Fields as in CombineParams (base/expert_params.h), rows without gaps. Rows of padding have negative pairs
// and take none.
struct CombineArgs {
  const float* in = nullptr;           // [pairs, num_cols]
  const int32_t* pair_of = nullptr;    // [num_rows, num_chosen]
  const float* weights = nullptr;      // [num_rows, num_chosen]
  const float* shared = nullptr;       // optional [num_rows, num_cols]
  const float* shared_gate = nullptr;  // optional [num_rows], gate_stride apart
  const float* residual = nullptr;     // optional [num_rows, num_cols]; may be `out` itself
  float* out = nullptr;                // [num_rows, num_cols]
  int64_t gate_stride = 1;             // floats from one row's gate to the next
  int32_t num_rows = 0;
  int32_t num_cols = 0;
  int32_t num_chosen = 0;
  float scale = 1;
};

LaunchShape combine_launch(const CombineArgs& args);

}  // namespace autoglm::cuda
