// Products with packed weights, 1 to many rows, with bias and residual in the same pass.
#pragma once

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// Throws invalid_parameter for shapes that do not agree and for the wrong kind of input: int8 rows exactly
// when weights.takes_int8(). Row r of the result has the same bits alone and in any batch, on one instruction
// set.
void matmul(const Execution& execution, const MatmulParams& params);

// norm, and matmul of what it gives: `norm`'s output is params' input. With few rows it is one stage, and
// whether norm's output is written is open. The result has the bits of the two one after the other.
void normed_matmul(const Execution& execution, const NormParams& norm, const MatmulParams& params);

// What matmul checks, whole and in parts; for operations that run its kernels in stages of their own.
void check_matmul(const MatmulParams& params);
void check_weights(const char* what, const PackedMatrix& weights);
void check_product_input(const char* what, const PackedMatrix& weights, const TensorView<const float>& in,
                         const QuantizedRows& quantized, int64_t num_rows);

}  // namespace autoglm
