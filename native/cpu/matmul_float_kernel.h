// Float activations times any packed panel: blocks of 32 k, or 128 of floats, are expanded to f32 once for up
// to 64 rows, then multiplied; bf16 is not expanded for a few rows. One accumulation chain per output, k
// ascending: sum = fma(weight, activation, sum).
#pragma once

#include <iterator>
#include <utility>

#include "cpu/matmul_tile.h"

namespace autoglm::cpu {
namespace {

constexpr int kFloatRowBlock = 64;  // 8 KB of sums beside 4 or 16 KB of weights: both stay in the L1 cache
constexpr int kMaxFloatBlockCols = 128;
constexpr int kMaxDirectRows = 2;
constexpr int kPrefetchedCols = 32;

// Expands columns [first, first + count) of a panel to [count][32 lanes]; count is that of a block but for
// the last one.
template <typename S>
using ExpandFunction = void (*)(const std::byte* panel, int64_t first, int count, float* out);

template <typename S>
void expand_f16(const std::byte* panel, int64_t first, int count, float* out) {
  const auto* from = reinterpret_cast<const uint16_t*>(panel) + first * kPanelLanes;
  for (int i = 0; i < count * kPanelLanes; i += S::kWidth) S::store(out + i, S::load_half(from + i));
}

template <typename S>
void expand_bf16(const std::byte* panel, int64_t first, int count, float* out) {
  const auto* from = reinterpret_cast<const uint16_t*>(panel) + first * kPanelLanes;
  for (int col = 0; col < count; col += 2) {
    for (int lane = 0; lane < kPanelLanes; lane += S::kWidth) {
      typename S::Float even, odd;
      S::load_bf16_pairs(from + col * kPanelLanes + 2 * lane, even, odd);
      S::store(out + col * kPanelLanes + lane, even);
      if (col + 1 < count) S::store(out + (col + 1) * kPanelLanes + lane, odd);
    }
  }
}

// Scale number `index` (counted in lanes) of a group, or min.
template <typename S, ScaleType kScale>
inline typename S::Float load_scale(const std::byte* scales, int index) {
  if constexpr (kScale == ScaleType::f16)
    return S::load_half(reinterpret_cast<const uint16_t*>(scales) + index);
  return S::load(reinterpret_cast<const float*>(scales) + index);
}

// Turns the codes of one vector of lanes into weights; there is one of these per part of a group.
template <typename S, PackedFormat kFormat>
struct PartScale {
  typename S::Float scale, min;

  PartScale(const std::byte* group, int part, int lane) {
    constexpr ScaleType kScale = kFormat.scale_type;
    const std::byte* scales = group + code_bytes(kFormat.layout);
    scale = load_scale<S, kScale>(scales, part * kPanelLanes + lane);
    min = S::zero();
    if constexpr (kFormat.has_min) {
      min = load_scale<S, kScale>(scales, (kFormat.scales_per_group + part) * kPanelLanes + lane);
    }
  }
  typename S::Float weight(typename S::Int code) const {
    if constexpr (kFormat.has_min) return S::fma(S::to_float(code), scale, min);
    constexpr int kZero = zero_code(kFormat.layout);
    if constexpr (kZero != 0) code = S::sub_int(code, S::broadcast_int(kZero));
    return S::mul(S::to_float(code), scale);
  }
};

// Four columns of one vector of lanes, as the bytes of each lane's word.
template <typename S, typename Part>
inline void expand_quad(typename S::Int words, const Part& part, float* out) {
  for (int i = 0; i < 4; ++i) {
    // The lowest byte, sign-extended.
    const typename S::Int value = S::template shift_right_signed<24>(S::template shift_left<24>(words));
    S::store(out + i * kPanelLanes, part.weight(value));
    words = S::template shift_right<8>(words);
  }
}

template <typename S, PackedFormat kFormat>
void expand_q8(const std::byte* group, float* out) {
  for (int lane = 0; lane < kPanelLanes; lane += S::kWidth) {
    const PartScale<S, kFormat> part(group, 0, lane);
    for (int quad = 0; quad < 8; ++quad) {
      expand_quad<S>(S::load_int(group + quad * 128 + lane * 4), part, out + quad * 4 * kPanelLanes + lane);
    }
  }
}

template <typename S, PackedFormat kFormat>
void expand_q4(const std::byte* group, float* out) {
  const typename S::Int nibble = S::broadcast_int(15);
  for (int lane = 0; lane < kPanelLanes; lane += S::kWidth) {
    for (int octet = 0; octet < 4; ++octet) {
      const PartScale<S, kFormat> part(group, octet * kFormat.scales_per_group / 4, lane);
      typename S::Int words = S::load_int(group + octet * 128 + lane * 4);
      float* to = out + octet * 8 * kPanelLanes + lane;
      for (int i = 0; i < 4; ++i) {
        S::store(to + i * kPanelLanes, part.weight(S::and_int(words, nibble)));
        S::store(to + (i + 4) * kPanelLanes,
                 part.weight(S::and_int(S::template shift_right<4>(words), nibble)));
        words = S::template shift_right<8>(words);
      }
    }
  }
}

// The values of a code book take the place of four nibbles of a lane and are expanded like those of q8.
template <typename S, PackedFormat kFormat>
void expand_code_book(const std::byte* group, float* out) {
  const typename S::Int nibbles = S::broadcast_int(0x0f0f0f0f);
  const typename S::Table values = S::load_table(code_book(kFormat.layout));
  for (int lane = 0; lane < kPanelLanes; lane += S::kWidth) {
    const PartScale<S, kFormat> part(group, 0, lane);
    for (int quad = 0; quad < 8; ++quad) {
      typename S::Int words = S::load_int(group + quad / 2 * 128 + lane * 4);
      if (quad % 2 == 1) words = S::template shift_right<4>(words);
      words = S::look_up(values, S::and_int(words, nibbles));
      expand_quad<S>(words, part, out + quad * 4 * kPanelLanes + lane);
    }
  }
}

template <typename S, PackedFormat kFormat>
void expand_q6(const std::byte* group, float* out) {
  const typename S::Int nibble = S::broadcast_int(15);
  const typename S::Int two_bits = S::broadcast_int(0x30);
  for (int lane = 0; lane < kPanelLanes; lane += S::kWidth) {
    for (int half = 0; half < 2; ++half) {
      const PartScale<S, kFormat> part(group, half * kFormat.scales_per_group / 2, lane);
      typename S::Int high_words = S::load_int(group + 512 + half * 128 + lane * 4);
      typename S::Int words[2] = {S::load_int(group + (2 * half) * 128 + lane * 4),
                                  S::load_int(group + (2 * half + 1) * 128 + lane * 4)};
      const auto store = [&](int col, typename S::Int low, typename S::Int high) {
        const typename S::Int code = S::or_int(S::and_int(low, nibble), S::and_int(high, two_bits));
        S::store(out + (16 * half + col) * kPanelLanes + lane, part.weight(code));
      };
      for (int i = 0; i < 4; ++i) {
        store(i, words[0], S::template shift_left<4>(high_words));
        store(4 + i, S::template shift_right<4>(words[0]), S::template shift_left<2>(high_words));
        store(8 + i, words[1], high_words);
        store(12 + i, S::template shift_right<4>(words[1]), S::template shift_right<2>(high_words));
        for (typename S::Int& each : words) each = S::template shift_right<8>(each);
        high_words = S::template shift_right<8>(high_words);
      }
    }
  }
}

template <typename S, PackedFormat kFormat>
void expand_quantized(const std::byte* panel, int64_t first, int, float* out) {
  const std::byte* group = panel + first / kGroupCols * panel_bytes(kFormat, kGroup);
  if constexpr (kFormat.layout == ComputeLayout::q8) {
    expand_q8<S, kFormat>(group, out);
  } else if constexpr (kFormat.layout == ComputeLayout::q6) {
    expand_q6<S, kFormat>(group, out);
  } else if constexpr (has_code_book(kFormat.layout)) {
    expand_code_book<S, kFormat>(group, out);
  } else {
    expand_q4<S, kFormat>(group, out);
  }
}

constexpr PackedFormat with_scales(PackedFormat format, ScaleType type) {
  format.scale_type = type;
  return format;
}

// ops/ has checked that the format is one of kQuantizedFormats.
template <typename S, size_t... kIndex>
ExpandFunction<S> find_expand_quantized(const PackedFormat& format, std::index_sequence<kIndex...>) {
  constexpr ExpandFunction<S> kFunctions[][2] = {
      {expand_quantized<S, with_scales(kQuantizedFormats[kIndex], ScaleType::f16)>,
       expand_quantized<S, with_scales(kQuantizedFormats[kIndex], ScaleType::f32)>}...};
  const PackedFormat wanted = with_scales(format, ScaleType::f16);
  size_t index = 0;
  while (index + 1 < sizeof...(kIndex) && kQuantizedFormats[index] != wanted) ++index;
  return kFunctions[index][format.scale_type == ScaleType::f16 ? 0 : 1];
}

// Null for f32, which needs no expansion.
template <typename S>
ExpandFunction<S> expand_function(const PackedFormat& format) {
  switch (format.layout) {
    case ComputeLayout::f32:
      return nullptr;
    case ComputeLayout::f16:
      return expand_f16<S>;
    case ComputeLayout::bf16:
      return expand_bf16<S>;
    case ComputeLayout::q8:
    case ComputeLayout::q6:
    case ComputeLayout::q4:
    case ComputeLayout::iq4:
    case ComputeLayout::e2m1:
      break;
  }
  return find_expand_quantized<S>(format, std::make_index_sequence<std::size(kQuantizedFormats)>{});
}

// Adds `count` columns to sums[kRows][32 lanes]. `in` points to the first of these columns of the first row.
template <typename S, int kRows, int kVectors>
inline void multiply_vectors(const float* weights, int count, const float* in, int64_t in_stride,
                             float* sums) {
  typename S::Float total[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) total[r][v] = S::load(sums + r * kPanelLanes + v * S::kWidth);
  }
  for (int col = 0; col < count; ++col) {
    typename S::Float weight[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) weight[v] = S::load(weights + col * kPanelLanes + v * S::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename S::Float x = S::broadcast(in[r * in_stride + col]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total[r][v] = S::fma(weight[v], x, total[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) S::store(sums + r * kPanelLanes + v * S::kWidth, total[r][v]);
  }
}

template <typename S, int kRows>
void multiply_block(const float* weights, int count, const float* in, int64_t in_stride, float* sums) {
  constexpr int kVectors = S::template kFloatVectors<kRows>;
  for (int vector = 0; vector < kPanelVectors<S>; vector += kVectors) {
    const int lane = vector * S::kWidth;
    multiply_vectors<S, kRows, kVectors>(weights + lane, count, in, in_stride, sums + lane);
  }
}

// A panel of bf16 times all columns of a few rows, which wait for the weights: through memory these would
// take more time. The same chains as above.
template <typename S, int kRows>
void multiply_bf16_rows(const std::byte* panel, int64_t k, const float* in, int64_t in_stride, float* sums) {
  constexpr int kVectors = kPanelVectors<S>;
  const auto* from = reinterpret_cast<const uint16_t*>(panel);
  typename S::Float total[kRows][kVectors];
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) total[r][v] = S::zero();
  }
  for (int64_t col = 0; col < k; col += 2, from += 2 * kPanelLanes) {
    // The last pair of an odd number of columns has a zero for its second.
    const int64_t second = col + 1 < k ? col + 1 : col;
    __builtin_prefetch(from + kPrefetchedCols * kPanelLanes);
    __builtin_prefetch(from + (kPrefetchedCols + 1) * kPanelLanes);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      typename S::Float even, odd;
      S::load_bf16_pairs(from + 2 * v * S::kWidth, even, odd);
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        total[r][v] = S::fma(even, S::broadcast(in[r * in_stride + col]), total[r][v]);
        if (second != col) total[r][v] = S::fma(odd, S::broadcast(in[r * in_stride + second]), total[r][v]);
      }
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) S::store(sums + r * kPanelLanes + v * S::kWidth, total[r][v]);
  }
}

template <typename S, int... kRowsLessOne>
void float_panel(const MatmulParams& params, int64_t panel, int64_t first_row, int num_rows,
                 std::integer_sequence<int, kRowsLessOne...>) {
  using Multiply = void (*)(const float*, int, const float*, int64_t, float*);
  constexpr Multiply kMultiply[] = {multiply_block<S, kRowsLessOne + 1>...};
  const PackedMatrix& weights = params.weights;
  const std::byte* data = weights.panels + panel * panel_bytes(weights.format, weights.k);
  const ExpandFunction<S> expand = expand_function<S>(weights.format);
  const int tile_rows = even_tile_rows(num_rows, sizeof...(kRowsLessOne));
  alignas(64) float expanded[kMaxFloatBlockCols * kPanelLanes];
  alignas(64) float sums[kFloatRowBlock * kPanelLanes];
  if (weights.format.layout == ComputeLayout::bf16 && num_rows <= kMaxDirectRows) {
    const float* in = params.in.data + first_row * params.in.row_stride;
    const auto multiply = num_rows == 1 ? multiply_bf16_rows<S, 1> : multiply_bf16_rows<S, 2>;
    multiply(data, weights.k, in, params.in.row_stride, sums);
    return store_outputs<S>(params, panel, first_row, num_rows, sums);
  }
  __builtin_memset(sums, 0, num_rows * kPanelLanes * sizeof(float));
  const int block_cols = weights.format.is_quantized() ? kGroupCols : kMaxFloatBlockCols;
  for (int64_t col = 0; col < weights.k; col += block_cols) {
    const int count = static_cast<int>(weights.k - col < block_cols ? weights.k - col : block_cols);
    const float* block = reinterpret_cast<const float*>(data) + col * kPanelLanes;
    if (expand != nullptr) {
      expand(data, col, count, expanded);
      block = expanded;
    }
    for (int row = 0; row < num_rows; row += tile_rows) {
      const float* in = params.in.data + (first_row + row) * params.in.row_stride + col;
      const int rows = num_rows - row < tile_rows ? num_rows - row : tile_rows;
      kMultiply[rows - 1](block, count, in, params.in.row_stride, sums + row * kPanelLanes);
    }
  }
  store_outputs<S>(params, panel, first_row, num_rows, sums);
}

template <typename S>
void matmul_float(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                  int64_t last_row) {
  constexpr auto kRows = std::make_integer_sequence<int, S::kMaxFloatRows>{};
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t row = first_row; row < last_row; row += kFloatRowBlock) {
      const int64_t left = last_row - row;
      float_panel<S>(params, panel, row, static_cast<int>(left < kFloatRowBlock ? left : kFloatRowBlock),
                     kRows);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
