// The MLP's nonlinearity. Contract: ActivationParams in base/op_params.h.
#pragma once

#include "cpu/quantize_kernel.h"
#include "cpu/vector_math.h"

namespace autoglm::cpu {
namespace {

template <typename S, Activation kActivation>
inline typename S::Float apply_activation(typename S::Float x) {
  using Float = typename S::Float;
  if constexpr (kActivation == Activation::silu) {
    return S::mul(x, sigmoid<S>(x));
  } else if constexpr (kActivation == Activation::gelu_tanh) {
    // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))); Source: Hendrycks and Gimpel 2016, section 2.
    const Float cubic = S::fma(S::mul(S::mul(x, x), S::broadcast(0.044715f)), x, x);
    const Float inner = tanh<S>(S::mul(cubic, S::broadcast(0.797884561f)));
    return S::mul(S::mul(S::broadcast(0.5f), x), S::add(S::broadcast(1), inner));
  } else if constexpr (kActivation == Activation::gelu_erf) {
    const Float inner = erf<S>(S::mul(x, S::broadcast(0.707106781f)));
    return S::mul(S::mul(S::broadcast(0.5f), x), S::add(S::broadcast(1), inner));
  } else {
    return S::max(S::zero(), x);
  }
}

template <typename S, Activation kActivation>
void activate_rows(const ActivationParams& params, int64_t first, int64_t last) {
  const int64_t num_cols = params.up.num_cols;
  alignas(64) float block[kBlockCols];
  for (int64_t row = first; row < last; ++row) {
    const float* up = params.up.data + row * params.up.row_stride;
    const float* gate =
        params.gate.data != nullptr ? params.gate.data + row * params.gate.row_stride : nullptr;
    for (int64_t col = 0; col < num_cols; col += kBlockCols) {
      const int count = static_cast<int>(num_cols - col < kBlockCols ? num_cols - col : kBlockCols);
      for (int i = 0; i < count; i += S::kWidth) {
        const int lanes = count - i < S::kWidth ? count - i : S::kWidth;
        typename S::Float x = S::load_first(up + col + i, lanes);
        x = gate != nullptr
                ? S::mul(apply_activation<S, kActivation>(S::load_first(gate + col + i, lanes)), x)
                : apply_activation<S, kActivation>(x);
        S::store(block + i, x);
      }
      store_block<S>(block, params.out, params.quantized, row, col, count);
    }
  }
}

// By the order of base/formats.def.
template <typename S>
constexpr void (*kActivations[])(const ActivationParams&, int64_t, int64_t) = {
    activate_rows<S, Activation::silu>,
    activate_rows<S, Activation::gelu_erf>,
    activate_rows<S, Activation::gelu_tanh>,
    activate_rows<S, Activation::relu>,
};

template <typename S>
void activate(const ActivationParams& params, int64_t first, int64_t last) {
  kActivations<S>[static_cast<int>(params.activation)](params, first, last);
}

}  // namespace
}  // namespace autoglm::cpu
