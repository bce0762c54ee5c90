// Blocks of up to 32 columns on their way out: stored as floats, as int8 with their group's scale and sums,
// or both. A group's numbers depend on its 32 values alone.
#pragma once

#include "base/op_params.h"

namespace autoglm::cpu {
namespace {

constexpr int kBlockCols = 32;  // one activation group
constexpr float kMaxInt8 = 127;

template <typename S>
inline void quantize_group(const float* in, int8_t* out, ActivationGroup& group) {
  constexpr int kVectors = kBlockCols / S::kWidth;
  // The largest magnitude by its bits: as an integer a NaN beats everything and so reaches the scale.
  typename S::Int most = S::bits_of(S::abs(S::load(in)));
  for (int i = 1; i < kVectors; ++i) most = S::max_int(most, S::bits_of(S::abs(S::load(in + i * S::kWidth))));
  const float largest = __builtin_bit_cast(float, S::reduce_max_int(most));
  const typename S::Float inverse = S::broadcast(largest > 0 ? kMaxInt8 / largest : 0.0f);
  typename S::Int rounded[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    // Clamped, since 127 / largest may round up or, for subnormal groups, overflow.
    typename S::Float scaled = S::mul(S::load(in + i * S::kWidth), inverse);
    scaled = S::min(S::max(scaled, S::broadcast(-kMaxInt8)), S::broadcast(kMaxInt8));
    rounded[i] = S::to_int(scaled);
  }
  S::store_int8x32(out, rounded);
  typename S::Int low = rounded[0];
  for (int i = 1; i < kVectors / 2; ++i) low = S::add_int(low, rounded[i]);
  typename S::Int high = rounded[kVectors / 2];
  for (int i = kVectors / 2 + 1; i < kVectors; ++i) high = S::add_int(high, rounded[i]);
  const int32_t low_sum = S::reduce_add_int(low);
  const int32_t sum = low_sum + S::reduce_add_int(high);
  group.scale = largest / kMaxInt8;
  group.scaled_sum = group.scale * static_cast<float>(sum);
  group.negative_low_sum = -low_sum;
  group.negative_sum = -sum;
}

// Writes columns [col, col + count) of `row`; count is 32 but for the last block, and always 32 when
// quantized.
template <typename S>
inline void store_block(const float* block, const TensorView<float>& out, const QuantizedRows& quantized,
                        int64_t row, int64_t col, int count) {
  if (out.data != nullptr)
    __builtin_memcpy(out.data + row * out.row_stride + col, block, count * sizeof(float));
  if (quantized.values == nullptr) return;
  const int64_t index = row * quantized.row_stride + col;
  quantize_group<S>(block, quantized.values + index, quantized.groups[index / kBlockCols]);
}

template <typename S>
void quantize_rows(const TensorView<const float>& in, const QuantizedRows& out, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row) {
    const float* values = in.data + row * in.row_stride;
    for (int64_t col = 0; col < out.num_cols; col += kBlockCols) {
      const int64_t index = row * out.row_stride + col;
      quantize_group<S>(values + col, out.values + index, out.groups[index / kBlockCols]);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
