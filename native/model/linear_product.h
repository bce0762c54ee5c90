// From packed weights and activations to the arguments of a product.
#pragma once

#include <optional>

#include "base/op_params.h"
#include "model/activation_buffer.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "ops/gated_matmul.h"

namespace autoglm {

// Takes the kind of activations that the weights ask for.
inline MatmulParams product(const Linear& linear, const Activations& in, TensorView<float> out) {
  MatmulParams params{
      .weights = linear.matrix, .in = {}, .quantized = {}, .bias = linear.bias, .residual = {}, .out = out};
  if (linear.matrix.takes_int8()) {
    params.quantized = in.quantized;
  } else {
    params.in = in.values;
  }
  return params;
}

// Calls add(params) for each part of a stacked product; the parts fill the columns of `out` one after the
// other.
template <typename Add>
void for_parts(const StackedLinear& stacked, const Activations& in, TensorView<float> out, Add&& add) {
  int64_t first_col = 0;
  for (const Linear& part : stacked.parts) {
    add(product(part, in, out.columns(first_col, part.matrix.n)));
    first_col += part.matrix.n;
  }
}

// Gate and up of an MLP as one operation, still without outputs; nothing when they share a panel or read
// different kinds of input.
inline std::optional<GatedMatmulParams> gated_product(const StackedLinear& stacked, const MlpSpec& mlp,
                                                      const Activations& in) {
  const Linear& first = stacked.parts.front();
  const Linear& last = stacked.parts.back();
  GatedMatmulParams params{.gate = {},
                           .up = last.matrix,
                           .up_bias = last.bias,
                           .in = {},
                           .quantized_in = {},
                           .activation = mlp.activation,
                           .out = {},
                           .quantized = {}};
  if (mlp.is_gated && stacked.parts.size() == 2) {
    if (first.matrix.takes_int8() != last.matrix.takes_int8()) return std::nullopt;
    params.gate = first.matrix;
    params.gate_bias = first.bias;
  } else if (mlp.is_gated) {
    const int64_t n = mlp.intermediate_size;
    if (n % kPanelRows != 0) return std::nullopt;
    params.gate = first.matrix.rows(0, n);
    params.gate_bias = first.bias;
    params.up = first.matrix.rows(n, n);
    if (first.bias != nullptr) params.up_bias = first.bias + n;
  }
  if (params.up.takes_int8()) {
    params.quantized_in = in.quantized;
  } else {
    params.in = in.values;
  }
  return params;
}

}  // namespace autoglm
