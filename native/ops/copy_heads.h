// Copies of a part of every head's columns into wider or narrower heads.
#pragma once

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// out[r, h * out_cols + i] = in[r, h * in_cols + first + i] for i in 0..count-1, where in_cols and out_cols
// are the columns of one of num_heads heads.
struct CopyHeadsParams {
  int64_t num_heads = 0;
  int64_t first = 0;
  int64_t count = 0;
  TensorView<const float> in;
  TensorView<float> out;
};

// Throws invalid_parameter for shapes that do not agree.
void copy_heads(const Execution& execution, const CopyHeadsParams& params);

}  // namespace autoglm
