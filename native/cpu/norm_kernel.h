// RMS and layer norm of one row at a time. Contract: NormParams in base/op_params.h.
// Statistics are f32 sums over kWidth lanes, reduced once: the same order for a row in any batch.
#pragma once

#include "cpu/quantize_kernel.h"

namespace autoglm::cpu {
namespace {

// Sum over i of function(vector i); lanes past the end are zero before `function` sees them.
template <typename S, typename Function>
inline float sum_over(const float* in, int64_t count, Function&& function) {
  typename S::Float sum = S::zero();
  int64_t i = 0;
  for (; i + S::kWidth <= count; i += S::kWidth) sum = function(S::load(in + i), sum);
  float total = S::reduce_add(sum);
  if (i < count) {
    for (; i < count; ++i) {
      float lanes[S::kWidth] = {};
      lanes[0] = in[i];
      float result[S::kWidth];
      S::store(result, function(S::load(lanes), S::zero()));
      total += result[0];
    }
  }
  return total;
}

struct RowStatistics {
  float mean;
  float inverse;  // 1 / sqrt(variance or mean square + epsilon)
};

template <typename S>
inline RowStatistics row_statistics(NormKind kind, float epsilon, const float* in, int64_t count) {
  using Float = typename S::Float;
  float mean = 0;
  if (kind == NormKind::layer) {
    mean =
        sum_over<S>(in, count, [](Float x, Float sum) { return S::add(x, sum); }) / static_cast<float>(count);
  }
  const Float center = S::broadcast(mean);
  const float squares = sum_over<S>(in, count, [&](Float x, Float sum) {
    const Float distance = S::sub(x, center);
    return S::fma(distance, distance, sum);
  });
  return {mean, 1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + epsilon)};
}

// A block of up to 32 normalised columns.
template <typename S>
inline void norm_block(const NormParams& params, const RowStatistics& row, const float* in, int64_t col,
                       int count, float* block) {
  const typename S::Float unit = S::broadcast(params.has_unit_offset ? 1.0f : 0.0f);
  for (int i = 0; i < count; i += S::kWidth) {
    const int lanes = count - i < S::kWidth ? count - i : S::kWidth;
    typename S::Float y = S::sub(S::load_first(in + col + i, lanes), S::broadcast(row.mean));
    y = S::mul(y, S::broadcast(row.inverse));
    y = S::mul(y, S::add(S::load_first(params.weight + col + i, lanes), unit));
    if (params.bias != nullptr) y = S::add(y, S::load_first(params.bias + col + i, lanes));
    S::store(block + i, y);
  }
}

template <typename S>
void norm_rows(const NormParams& params, int64_t first, int64_t last) {
  const int64_t num_cols = params.in.num_cols;
  alignas(64) float block[kBlockCols];
  for (int64_t row = first; row < last; ++row) {
    const int64_t input_row = params.input_rows != nullptr ? params.input_rows[row] : row;
    const float* in = params.in.data + input_row * params.in.row_stride;
    const RowStatistics statistics = row_statistics<S>(params.kind, params.epsilon, in, num_cols);
    for (int64_t col = 0; col < num_cols; col += kBlockCols) {
      const int count = static_cast<int>(num_cols - col < kBlockCols ? num_cols - col : kBlockCols);
      norm_block<S>(params, statistics, in, col, count, block);
      if (params.residual.data != nullptr) {
        const float* residual = params.residual.data + row * params.residual.row_stride + col;
        for (int i = 0; i < count; i += S::kWidth) {
          const int lanes = count - i < S::kWidth ? count - i : S::kWidth;
          const typename S::Float sum = S::fma(S::broadcast(params.residual_scale), S::load(block + i),
                                               S::load_first(residual + i, lanes));
          S::store(block + i, sum);
        }
      }
      store_block<S, Rounding::least_error>(block, params.out, params.quantized, row, col, count);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
