// Copies of chosen rows, so that one expert's rows lie together.
#pragma once

#include <cstdint>
#include <span>

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// out[i] = in[rows[i]]. Throws invalid_parameter for shapes that do not agree and rows that do not exist.
void gather_rows(const Execution& execution, std::span<const int32_t> rows, TensorView<const float> in,
                 TensorView<float> out);
// The same for int8 activations with their groups.
void gather_rows(const Execution& execution, std::span<const int32_t> rows, const QuantizedRows& in,
                 const QuantizedRows& out);

}  // namespace autoglm
