// Int8 activations for products with quantized weights, where their producer did not make them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// Bytes of the memory of QuantizedRows [num_rows, num_cols], a multiple of 64.
int64_t quantized_rows_bytes(int64_t num_rows, int64_t num_cols);
// Lays them over `memory`, 64-byte aligned. Throws invalid_parameter when it is too small or num_cols % 32 !=
// 0.
QuantizedRows make_quantized_rows(int64_t num_rows, int64_t num_cols, std::span<std::byte> memory);

// out = in, rounded. Throws invalid_parameter for shapes that do not agree.
void quantize_rows(const Execution& execution, TensorView<const float> in, const QuantizedRows& out);

}  // namespace autoglm
