// Arguments and launch of gather_rows.cu.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// out[i] = in[rows[i]], as bytes: rows of any element type, 16-byte aligned.
struct GatherRowsArgs {
  const void* in = nullptr;
  const int32_t* rows = nullptr;  // [num_rows]; a negative one leaves its row of out alone
  void* out = nullptr;
  int64_t in_stride = 0;   // bytes from one row to the next, a multiple of 16
  int64_t out_stride = 0;  // the same
  int32_t row_bytes = 0;   // a multiple of 16
  int32_t num_rows = 0;
};

LaunchShape gather_rows_launch(const GatherRowsArgs& args);

}  // namespace autoglm::cuda
