// What becomes of the sums of a product: bias, activation or gate, scale, residual, rounding.
// Formulas: product.h; activations as in cpu/activation_kernel.h.
#pragma once

#include "cuda/device/ptx.cuh"
#include "cuda/product.h"

namespace autoglm::cuda {

inline constexpr float kProductLog2E = 1.44269504088896341f;

// In forms without a difference, so that small results of negative x keep their digits.
__device__ inline float activated(Activation activation, float x) {
  if (activation == Activation::silu) return x / (1.0f + exp2_approx(-kProductLog2E * x));
  if (activation == Activation::gelu_erf) return 0.5f * x * erfcf(x * -0.707106781f);
  if (activation == Activation::relu) return x < 0.0f ? 0.0f : x;
  // Source: Hendrycks and Gimpel 2016, section 2; (1 + tanh(t)) / 2 = 1 / (1 + e^(-2 t)).
  const float inner = multiply_add(x * x * 0.044715f, x, x) * 0.797884561f;
  return x / (1.0f + exp2_approx(-2 * kProductLog2E * inner));
}

__device__ inline float biased(const ProductArgs& args, float sum, int weight_row) {
  return args.bias == nullptr ? sum : sum + global_pointer(args.bias)[weight_row];
}

// What is stored, from y of an output before scale and residual.
__device__ inline float finished(const ProductArgs& args, float y, float residual) {
  return args.residual == nullptr ? args.scale * y : multiply_add(args.scale, y, residual);
}

__device__ inline void write_output(const ProductArgs& args, int64_t offset, float y) {
  float out = y;
  if (args.epilogue == Epilogue::plain) {
    out = finished(args, y, args.residual == nullptr ? 0.0f : global_pointer(args.residual)[offset]);
  }
  if (args.out != nullptr) {
    global_pointer(args.out)[offset] = out;
  } else {
    global_pointer(args.out_bf16)[offset].bits = static_cast<uint16_t>(pack_bf16(out, 0));
  }
}

struct alignas(16) Floats4 {
  float value[4];
};
struct alignas(8) Bf16s4 {
  uint32_t word[2];
};

// True if four outputs can be read and written at once, at any multiple of four columns.
__device__ inline bool has_wide_outputs(const ProductArgs& args) {
  const auto out = reinterpret_cast<uintptr_t>(args.out) | reinterpret_cast<uintptr_t>(args.residual) |
                   2 * reinterpret_cast<uintptr_t>(args.out_bf16);
  return (out | static_cast<uintptr_t>(4 * args.out_stride)) % 16 == 0;
}

__device__ inline void write_four(const ProductArgs& args, int64_t offset, Floats4 y) {
  if (args.epilogue == Epilogue::plain) {
    Floats4 residual = {};
    if (args.residual != nullptr)
      residual = *reinterpret_cast<const Floats4*>(global_pointer(args.residual) + offset);
#pragma unroll
    for (int i = 0; i < 4; ++i) y.value[i] = finished(args, y.value[i], residual.value[i]);
  }
  if (args.out != nullptr) {
    *reinterpret_cast<Floats4*>(global_pointer(args.out) + offset) = y;
  } else {
    *reinterpret_cast<Bf16s4*>(global_pointer(args.out_bf16) + offset) = {
        {pack_bf16(y.value[0], y.value[1]), pack_bf16(y.value[2], y.value[3])}};
  }
}

}  // namespace autoglm::cuda
