// The weighted sum of a row's experts. Contract: CombineParams in base/expert_params.h.
#pragma once

#include "base/expert_params.h"
#include "cpu/vector_math.h"

namespace autoglm::cpu {
namespace {

template <typename S>
void combine_rows(const CombineParams& params, int64_t first, int64_t last) {
  using Float = typename S::Float;
  const int64_t num_cols = params.out.num_cols;
  const int64_t num_chosen = params.pairs.num_cols;
  const Float scale = S::broadcast(params.scale);
  for (int64_t row = first; row < last; ++row) {
    const int32_t* pairs = params.pairs.row(row);
    const float* weights = params.weights.row(row);
    const float* shared = params.shared.data != nullptr ? params.shared.row(row) : nullptr;
    const float* residual = params.residual.data != nullptr ? params.residual.row(row) : nullptr;
    const Float gate = params.shared_gate.data != nullptr
                           ? sigmoid<S>(S::broadcast(params.shared_gate.row(row)[0]))
                           : S::broadcast(1);
    float* out = params.out.row(row);
    for (int64_t col = 0; col < num_cols; col += S::kWidth) {
      const int lanes = static_cast<int>(num_cols - col < S::kWidth ? num_cols - col : S::kWidth);
      Float sum = S::zero();
      for (int64_t j = 0; j < num_chosen; ++j) {
        sum = S::fma(S::broadcast(weights[j]), S::load_first(params.in.row(pairs[j]) + col, lanes), sum);
      }
      if (shared != nullptr) sum = S::fma(gate, S::load_first(shared + col, lanes), sum);
      sum =
          residual != nullptr ? S::fma(scale, sum, S::load_first(residual + col, lanes)) : S::mul(scale, sum);
      S::store_first(out + col, sum, lanes);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
