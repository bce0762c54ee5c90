// norm: y = norm(in[input_rows[r]]); out[r] = residual[r] + residual_scale * y
// Shapes and formulas: NormArgs, NormParams in base/op_params.h.
// Needs:    rows of num_cols floats without gaps; pointers aligned to kWidth floats, num_cols % kWidth == 0.
// Rounding: sums in f32 in an order that num_cols alone decides; one rounding to bf16.
// Cost:     memory bound, 4 to 14 bytes moved per element; the second pass over a row hits the L1 cache.
// Twin:     cpu/norm_kernel.h.
#pragma once

#include "cuda/device/ptx.cuh"
#include "cuda/rows/norm.h"

namespace autoglm::cuda {

inline constexpr int kNormThreads = 256;
inline constexpr int kNormWarps = kNormThreads / kWarpSize;

struct NormStorage {
  float sums[2][kNormWarps];  // two, so that a second sum need not wait until the first one is read
};

template <int kWidth>
struct alignas(kWidth * sizeof(float)) Floats {
  float value[kWidth];
};
template <int kWidth>
struct alignas(kWidth * sizeof(Bf16)) Bf16s {
  Bf16 value[kWidth];
};

__device__ inline float sum_of_block(float value, float (&sums)[kNormWarps]) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  if (thread_x() % kWarpSize == 0) sums[thread_x() / kWarpSize] = value;
  sync_threads();
  float total = 0;
#pragma unroll
  for (int warp = 0; warp < kNormWarps; ++warp) total += sums[warp];
  return total;
}

template <int kWidth>
__device__ void write_normed(const NormArgs& args, int64_t offset, const Floats<kWidth>& values) {
  Floats<kWidth> out = values;
  if (args.residual != nullptr) {
    const auto residual = *reinterpret_cast<const Floats<kWidth>*>(args.residual + offset);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      out.value[i] = multiply_add(args.residual_scale, values.value[i], residual.value[i]);
    }
  }
  if (args.out != nullptr) *reinterpret_cast<Floats<kWidth>*>(args.out + offset) = out;
  if (args.out_bf16 == nullptr) return;
  Bf16s<kWidth> rounded;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    rounded.value[i].bits = static_cast<uint16_t>(pack_bf16(out.value[i], 0));
  }
  *reinterpret_cast<Bf16s<kWidth>*>(args.out_bf16 + offset) = rounded;
}

// One block per row.
template <int kWidth>
__device__ void norm_row(const NormArgs& args) {
  auto& storage = shared_storage<NormStorage>();
  const int row = block_x();
  const int64_t input_row = args.input_rows == nullptr ? row : args.input_rows[row];
  const float* in = args.in + input_row * args.num_cols;
  const int first = thread_x() * kWidth;
  constexpr int kStep = kNormThreads * kWidth;

  float mean = 0;
  if (args.kind == NormKind::layer) {
    float sum = 0;
    for (int col = first; col < args.num_cols; col += kStep) {
      const auto x = *reinterpret_cast<const Floats<kWidth>*>(in + col);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += x.value[i];
    }
    mean = sum_of_block(sum, storage.sums[0]) / static_cast<float>(args.num_cols);
  }
  float squares = 0;
  for (int col = first; col < args.num_cols; col += kStep) {
    const auto x = *reinterpret_cast<const Floats<kWidth>*>(in + col);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float distance = x.value[i] - mean;
      squares = multiply_add(distance, distance, squares);
    }
  }
  const float variance = sum_of_block(squares, storage.sums[1]) / static_cast<float>(args.num_cols);
  const float factor = 1.0f / sqrtf(variance + args.epsilon);

  for (int col = first; col < args.num_cols; col += kStep) {
    auto x = *reinterpret_cast<const Floats<kWidth>*>(in + col);
    const auto weight = *reinterpret_cast<const Floats<kWidth>*>(args.weight + col);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float gain = args.has_unit_offset ? weight.value[i] + 1.0f : weight.value[i];
      const float normed = (x.value[i] - mean) * factor;
      x.value[i] = args.bias == nullptr ? normed * gain : multiply_add(normed, gain, args.bias[col + i]);
    }
    write_normed<kWidth>(args, int64_t{row} * args.num_cols + col, x);
  }
}

}  // namespace autoglm::cuda
