// Blocks of up to 32 columns on their way out: stored as floats, as int8 with their group's scale and sums,
// or both. A group's numbers depend on its 32 values alone.
#pragma once

#include <cstdint>

#include "base/op_params.h"

namespace autoglm::cpu {
namespace {

constexpr int kBlockCols = 32;  // one activation group
constexpr float kMaxInt8 = 127;

// How a group's scale is chosen. `nearest`: its largest magnitude becomes 127. `least_error`: it becomes what
// rounds the group with the least squared error among four codes, about 10 % less than with the first.
enum class Rounding { nearest, least_error };
constexpr float kLargestCodes[4] = {kMaxInt8, 124, 121, 118};

template <typename S>
inline float least_error_code(const typename S::Float* values, float largest) {
  typename S::Float sums[4];
  const typename S::Float shift = S::broadcast(0x1.8p23f);  // to this size floats have no fraction bits
  const typename S::Float unit = S::broadcast(kMaxInt8 / largest);
  for (int i = 0; i < 4; ++i) {
    const typename S::Float inverse = S::mul(unit, S::broadcast(kLargestCodes[i] / kMaxInt8));
    sums[i] = S::zero();
    for (int v = 0; v < kBlockCols / S::kWidth; ++v) {
      const typename S::Float rounded = S::sub(S::fma(values[v], inverse, shift), shift);
      const typename S::Float error = S::fma(values[v], inverse, S::sub(S::zero(), rounded));
      sums[i] = S::fma(error, error, sums[i]);
    }
  }
  float errors[4];
  S::reduce_add_each(sums, errors);
  // The bits of positive floats are in their order; the last two hold the index, since branches would guess
  // wrong half of the time.
  int32_t least = INT32_MAX;
  for (int i = 0; i < 4; ++i) {
    const float step = kMaxInt8 / kLargestCodes[i];
    const int32_t candidate = (__builtin_bit_cast(int32_t, errors[i] * (step * step)) & ~3) | i;
    least = candidate < least ? candidate : least;
  }
  return kLargestCodes[least & 3];
}

template <typename S, Rounding kRounding>
inline void quantize_group(const float* in, int8_t* out, ActivationGroup& group) {
  constexpr int kVectors = kBlockCols / S::kWidth;
  typename S::Float values[kVectors];
  for (int i = 0; i < kVectors; ++i) values[i] = S::load(in + i * S::kWidth);
  // The largest magnitude by its bits: as an integer a NaN beats everything and so reaches the scale.
  typename S::Int most = S::bits_of(S::abs(values[0]));
  for (int i = 1; i < kVectors; ++i) most = S::max_int(most, S::bits_of(S::abs(values[i])));
  const float largest = __builtin_bit_cast(float, S::reduce_max_int(most));
  const float code = kRounding == Rounding::nearest ? kMaxInt8 : least_error_code<S>(values, largest);
  const typename S::Float inverse = S::broadcast(largest > 0 ? code / largest : 0.0f);
  typename S::Int rounded[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    // Clamped, since code / largest may round up or, for subnormal groups, overflow.
    typename S::Float scaled = S::mul(values[i], inverse);
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
  group.scale = largest / code;
  group.scaled_sum = group.scale * static_cast<float>(sum);
  group.negative_low_sum = -low_sum;
  group.negative_sum = -sum;
}

// Writes columns [col, col + count) of `row`; count is 32 but for the last block, and always 32 when
// quantized.
template <typename S, Rounding kRounding = Rounding::nearest>
inline void store_block(const float* block, const TensorView<float>& out, const QuantizedRows& quantized,
                        int64_t row, int64_t col, int count) {
  if (out.data != nullptr)
    __builtin_memcpy(out.data + row * out.row_stride + col, block, count * sizeof(float));
  if (quantized.values == nullptr) return;
  const int64_t index = row * quantized.row_stride + col;
  quantize_group<S, kRounding>(block, quantized.values + index, quantized.groups[index / kBlockCols]);
}

template <typename S>
void quantize_rows(const TensorView<const float>& in, const QuantizedRows& out, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row) {
    const float* values = in.data + row * in.row_stride;
    for (int64_t col = 0; col < out.num_cols; col += kBlockCols) {
      const int64_t index = row * out.row_stride + col;
      quantize_group<S, Rounding::nearest>(values + col, out.values + index, out.groups[index / kBlockCols]);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
