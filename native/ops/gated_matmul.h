// The first half of an MLP in one stage: the products of gate and up, the nonlinearity, and the activations
// that the next product reads. The wide sums never reach memory.
#pragma once

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// out[r] = act(gate in[r] + gate_bias) * (up in[r] + up_bias), or act(up in[r] + up_bias) without a gate.
struct GatedMatmulParams {
  PackedMatrix gate;                 // optional [n, k], of up's kind of input
  PackedMatrix up;                   // [n, k]
  const float* gate_bias = nullptr;  // optional [n]
  const float* up_bias = nullptr;    // optional [n]
  TensorView<const float> in;        // [rows, k], unless up.takes_int8()
  QuantizedRows quantized_in;        // [rows, k], if up.takes_int8()
  Activation activation = Activation::silu;
  TensorView<float> out;    // optional [rows, n]
  QuantizedRows quantized;  // optional [rows, n]; n % 32 == 0
};

// Throws invalid_parameter as `matmul` and `activate` do. The result has the bits of those one after the
// other.
void gated_matmul(const Execution& execution, const GatedMatmulParams& params);

// norm, and gated_matmul of what it gives, as normed_matmul.
void normed_gated_matmul(const Execution& execution, const NormParams& norm, const GatedMatmulParams& params);

}  // namespace autoglm
