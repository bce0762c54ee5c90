#include "model/pooled_layers.h"

#include <algorithm>
#include <cmath>

#include "ops/matmul.h"
#include "ops/quantize_rows.h"

namespace autoglm {

PooledLayers::PooledLayers(const DecoderSpec& spec, const DecoderWeights& weights) {
  for (size_t i = 0; i < spec.pooled_layers.size(); ++i) {
    layers_.push_back({.linear = weights.pooled_layers[i], .has_tanh = spec.pooled_layers[i].has_tanh});
  }
}

void PooledLayers::reserve(ScratchAllocator& allocator) {
  int64_t float_cols = 0;
  int64_t int8_cols = 0;
  for (const Layer& layer : layers_) {
    float_cols = std::max(float_cols, layer.linear.matrix.n);
    if (layer.linear.matrix.takes_int8()) int8_cols = std::max(int8_cols, layer.linear.matrix.k);
  }
  for (FloatBuffer& output : outputs_) output.reserve(allocator, kMaxRows, float_cols);
  quantized_.reserve(allocator, kMaxRows, 0, int8_cols);
}

TensorView<const float> PooledLayers::run(const Execution& execution, TensorView<const float> vectors) {
  const int64_t num_rows = vectors.num_rows;
  TensorView<const float> in = vectors;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Linear& linear = layers_[i].linear;
    const TensorView<float> out = outputs_[i % 2].view(num_rows, linear.matrix.n);
    MatmulParams params{
        .weights = linear.matrix, .in = {}, .quantized = {}, .bias = linear.bias, .residual = {}, .out = out};
    if (linear.matrix.takes_int8()) {
      params.quantized = quantized_.view(num_rows, linear.matrix.k, false, true).quantized;
      quantize_rows(execution, in, params.quantized);
    } else {
      params.in = in;
    }
    matmul(execution, params);
    if (layers_[i].has_tanh) {
      for (int64_t row = 0; row < num_rows; ++row) {
        float* values = out.row(row);
        std::transform(values, values + out.num_cols, values, [](float value) { return std::tanh(value); });
      }
    }
    in = out;
  }
  return in;
}

}  // namespace autoglm
