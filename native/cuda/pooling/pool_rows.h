// Arguments and launch of pool_rows.cu: what runtime/pooled_requests.cpp does with hidden states, on the
// device.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Hidden states of one request's chunk, added to the request's sum. Rows by the pooling: for `mean` those of
// the chunk; for `first` the first of the chunk that begins the request and none of later ones; for `last`
// the last of the chunk that ends it and none of earlier ones.
struct PoolWork {
  int32_t first_row = 0;  // of PoolArgs::hidden
  int32_t num_rows = 0;   // may be 0
  int32_t sum = 0;        // the request's row of PoolArgs::sums; no two works of a launch share one
  int32_t vector = -1;    // row of PoolArgs::vectors that the chunk completes; negative: none
  int32_t divisor = 1;    // of a completed vector: for `mean` the tokens of the request
  bool begins = false;    // what the sum holds does not count
};

struct PoolArgs {
  const float* hidden = nullptr;   // [rows, hidden_size], hidden_stride apart
  const PoolWork* work = nullptr;  // [num_work]
  double* sums = nullptr;          // [sums, hidden_size], kept from step to step
  float* vectors = nullptr;        // [vectors, hidden_size]
  int64_t hidden_stride = 0;       // floats
  int32_t num_work = 0;
  int32_t hidden_size = 0;
};

LaunchShape pool_rows_launch(const PoolArgs& args);

}  // namespace autoglm::cuda
