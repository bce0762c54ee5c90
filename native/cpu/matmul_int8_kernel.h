// Int8 activations times packed q4, q6 or q8 panels. Integer sums inside a group of 32, then one float
// accumulation chain per output, groups ascending:
//   sum = fma(dot, weight scale * activation scale, sum), and with mins sum = fma(min, scaled activation sum,
//   sum),
// for each part of a group that has a scale of its own.
// dot_<isa>.h gives the integer part.
#pragma once

#include <iterator>
#include <utility>

#include "cpu/matmul_tile.h"

namespace autoglm::cpu {
namespace {

template <PackedFormat kFormat>
constexpr int kCodeBytes = static_cast<int>(code_bytes(kFormat.layout));

// The largest tile that prefetches its weights.
constexpr int kMaxPrefetchRows = 4;

template <PackedFormat kFormat>
constexpr int kGroupBytes = static_cast<int>(panel_bytes(kFormat, kGroup));

// A code book for instructions that take unsigned weights: the values are moved up by 2^kZeroBits.
template <ComputeLayout kLayout, int kZeroBits>
struct UnsignedBook {
  int8_t values[16];

  constexpr UnsignedBook() : values() {
    for (int i = 0; i < 16; ++i) values[i] = static_cast<int8_t>(code_book(kLayout)[i] + (1 << kZeroBits));
  }
};
template <ComputeLayout kLayout, int kZeroBits>
constexpr UnsignedBook<kLayout, kZeroBits> kUnsignedBook;

// Activations of the rows of one tile.
template <int kRows>
struct Int8Rows {
  const int8_t* values[kRows];
  const ActivationGroup* groups[kRows];
};

// total += (dot products of one part of a group) * weight scale * activation scale.
template <typename S, PackedFormat kFormat, int kPart, int kRows, int kVectors>
inline void add_part(const std::byte* lines, const uint16_t* scales, int64_t group,
                     const Int8Rows<kRows>& rows, typename S::Float (&total)[kRows][kVectors]) {
  typename S::Int dots[kRows][kVectors];
  S::template dot_part<kFormat, kPart, kRows, kVectors>(lines, group, rows, dots);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const typename S::Float scale = S::load_half(scales + kPart * kPanelLanes + v * S::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename S::Float product_scale = S::mul(scale, S::broadcast(rows.groups[r][group].scale));
      total[r][v] = S::fma(S::to_float(dots[r][v]), product_scale, total[r][v]);
    }
  }
}

// scale * (sum of the activations of one part of a group).
template <int kNumParts, int kPart>
inline float part_sum(const ActivationGroup& group) {
  if constexpr (kNumParts == 1) return group.scaled_sum;
  const int32_t negative = kPart == 0 ? group.negative_low_sum : group.negative_sum - group.negative_low_sum;
  return group.scale * static_cast<float>(-negative);
}

// total += min * sum of the part's activations.
template <typename S, PackedFormat kFormat, int kPart, int kRows, int kVectors>
inline void add_min(const uint16_t* mins, int64_t group, const Int8Rows<kRows>& rows,
                    typename S::Float (&total)[kRows][kVectors]) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const typename S::Float min = S::load_half(mins + kPart * kPanelLanes + v * S::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float sum = part_sum<kFormat.scales_per_group, kPart>(rows.groups[r][group]);
      total[r][v] = S::fma(min, S::broadcast(sum), total[r][v]);
    }
  }
}

// A tile of few rows waits for memory, and the processor's own prefetching leaves a tenth of the bandwidth
// unused.
template <PackedFormat kFormat>
inline void prefetch_group(const std::byte* panel) {
  constexpr int kDistance = 3 * kGroupBytes<kFormat>;
#pragma GCC unroll 20
  for (int i = 0; i < kGroupBytes<kFormat>; i += 64) __builtin_prefetch(panel + kDistance + i);
}

// Sums of kRows rows and kVectors vectors of outputs, from vector `first_vector` of the panel on.
template <typename S, PackedFormat kFormat, int kRows, int kVectors>
inline void int8_tile(const std::byte* panel, int first_vector, int64_t num_groups,
                      const Int8Rows<kRows>& rows, float* sums) {
  using Float = typename S::Float;
  constexpr int kNumParts = kFormat.scales_per_group;
  const int first_lane = first_vector * S::kWidth;
  Float total[kRows][kVectors];
  for (auto& row : total) {
    for (Float& each : row) each = S::zero();
  }
  for (int64_t group = 0; group < num_groups; ++group, panel += kGroupBytes<kFormat>) {
    if constexpr (kRows <= kMaxPrefetchRows) prefetch_group<kFormat>(panel);
    const std::byte* lines = panel + first_lane * 4;
    const auto* scales = reinterpret_cast<const uint16_t*>(panel + kCodeBytes<kFormat>) + first_lane;
    add_part<S, kFormat, 0>(lines, scales, group, rows, total);
    if constexpr (kNumParts == 2) add_part<S, kFormat, 1>(lines, scales, group, rows, total);
    if constexpr (kFormat.has_min) {
      const uint16_t* mins = scales + kNumParts * kPanelLanes;
      add_min<S, kFormat, 0>(mins, group, rows, total);
      if constexpr (kNumParts == 2) add_min<S, kFormat, 1>(mins, group, rows, total);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      S::store(sums + r * kPanelLanes + first_lane + v * S::kWidth, total[r][v]);
  }
}

// One panel with kRows rows from `row` on.
template <typename S, PackedFormat kFormat, int kRows>
void int8_panel_tile(const MatmulParams& params, int64_t panel, int64_t row) {
  constexpr int kVectors = S::template kInt8Vectors<kRows>;
  const int64_t num_groups = params.weights.k / kGroup;
  const std::byte* data = params.weights.panels + panel * num_groups * kGroupBytes<kFormat>;
  Int8Rows<kRows> rows;
  for (int r = 0; r < kRows; ++r) {
    const int64_t skipped = (row + r) * params.quantized.row_stride;
    rows.values[r] = params.quantized.values + skipped;
    rows.groups[r] = params.quantized.groups + skipped / kGroup;
  }
  alignas(64) float sums[kRows * kPanelLanes];
  for (int vector = 0; vector < kPanelVectors<S>; vector += kVectors) {
    int8_tile<S, kFormat, kRows, kVectors>(data, vector, num_groups, rows, sums);
  }
  store_outputs<S>(params, panel, row, kRows, sums);
}

template <typename S, PackedFormat kFormat, int... kRowsLessOne>
void int8_panels(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                 int64_t last_row, std::integer_sequence<int, kRowsLessOne...>) {
  using Tile = void (*)(const MatmulParams&, int64_t, int64_t);
  constexpr Tile kTiles[] = {int8_panel_tile<S, kFormat, kRowsLessOne + 1>...};
  const int tile_rows = even_tile_rows(last_row - first_row, sizeof...(kRowsLessOne));
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t row = first_row; row < last_row; row += tile_rows) {
      const int64_t left = last_row - row;
      kTiles[(left < tile_rows ? left : tile_rows) - 1](params, panel, row);
    }
  }
}

// Unpacking q6 and two parts per group take more registers: with six rows GCC 12 spills sums.
template <typename S, PackedFormat kFormat>
constexpr int kMaxInt8TileRows =
    (kFormat.layout == ComputeLayout::q6 || kFormat.scales_per_group == 2) && S::kMaxInt8Rows > 4
        ? 4
        : S::kMaxInt8Rows;

using Int8Panels = void (*)(const MatmulParams&, int64_t, int64_t, int64_t, int64_t);

template <typename S, PackedFormat kFormat>
void int8_panels_of(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                    int64_t last_row) {
  int8_panels<S, kFormat>(params, first_panel, last_panel, first_row, last_row,
                          std::make_integer_sequence<int, kMaxInt8TileRows<S, kFormat>>{});
}

// ops/ has checked that the format is one of kQuantizedFormats with half scales.
template <typename S, size_t... kIndex>
Int8Panels find_int8_panels(const PackedFormat& format, std::index_sequence<kIndex...>) {
  constexpr Int8Panels kFunctions[] = {int8_panels_of<S, kQuantizedFormats[kIndex]>...};
  size_t index = 0;
  while (index + 1 < sizeof...(kIndex) && kQuantizedFormats[index] != format) ++index;
  return kFunctions[index];
}

template <typename S>
void matmul_int8(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                 int64_t last_row) {
  constexpr auto kFormats = std::make_index_sequence<std::size(kQuantizedFormats)>{};
  find_int8_panels<S>(params.weights.format, kFormats)(params, first_panel, last_panel, first_row, last_row);
}

}  // namespace
}  // namespace autoglm::cpu
