// From packed weights and activations to the arguments of a product.
#pragma once

#include "base/op_params.h"
#include "model/activation_buffer.h"
#include "model/decoder_weights.h"

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

}  // namespace autoglm
