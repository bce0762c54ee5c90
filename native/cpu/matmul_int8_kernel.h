// Int8 activations times packed q4, q6 or q8 panels. Integer sums inside a group of 32, then one float
// accumulation chain per output, groups ascending:
//   sum = fma(dot, weight scale * activation scale, sum), and with mins sum = fma(min, scaled activation sum,
//   sum).
// dot_<isa>.h gives the integer part.
#pragma once

#include <utility>

#include "cpu/matmul_tile.h"

namespace autoglm::cpu {
namespace {

// q6 has one scale per 16 k.
template <ComputeLayout kLayout>
constexpr int kNumParts = kLayout == ComputeLayout::q6 ? 2 : 1;

template <ComputeLayout kLayout>
constexpr int kWeightBytes = kLayout == ComputeLayout::q8   ? 1024
                             : kLayout == ComputeLayout::q6 ? 768
                                                            : 512;

template <ComputeLayout kLayout, bool kHasMin>
constexpr int kGroupBytes = kWeightBytes<kLayout> + (kHasMin ? 2 : kNumParts<kLayout>)*kPanelLanes * 2;

// Activations of the rows of one tile.
template <int kRows>
struct Int8Rows {
  const int8_t* values[kRows];
  const ActivationGroup* groups[kRows];
};

// total += (dot products of one part of a group) * weight scale * activation scale.
template <typename S, ComputeLayout kLayout, bool kHasMin, int kPart, int kRows, int kVectors>
inline void add_part(const std::byte* lines, const uint16_t* scales, int64_t group,
                     const Int8Rows<kRows>& rows, typename S::Float (&total)[kRows][kVectors]) {
  typename S::Int dots[kRows][kVectors];
  S::template dot_part<kLayout, kHasMin, kPart, kRows, kVectors>(lines, group, rows, dots);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const typename S::Float scale = S::load_half(scales + v * S::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename S::Float product_scale = S::mul(scale, S::broadcast(rows.groups[r][group].scale));
      total[r][v] = S::fma(S::to_float(dots[r][v]), product_scale, total[r][v]);
    }
  }
}

// Sums of kRows rows and kVectors vectors of outputs, from vector `first_vector` of the panel on.
template <typename S, ComputeLayout kLayout, bool kHasMin, int kRows, int kVectors>
inline void int8_tile(const std::byte* panel, int first_vector, int64_t num_groups,
                      const Int8Rows<kRows>& rows, float* sums) {
  using Float = typename S::Float;
  const int first_lane = first_vector * S::kWidth;
  Float total[kRows][kVectors];
  for (auto& row : total) {
    for (Float& each : row) each = S::zero();
  }
  for (int64_t group = 0; group < num_groups; ++group, panel += kGroupBytes<kLayout, kHasMin>) {
    const std::byte* lines = panel + first_lane * 4;
    const auto* scales = reinterpret_cast<const uint16_t*>(panel + kWeightBytes<kLayout>) + first_lane;
    add_part<S, kLayout, kHasMin, 0>(lines, scales, group, rows, total);
    if constexpr (kNumParts<kLayout> == 2) {
      add_part<S, kLayout, kHasMin, 1>(lines, scales + kPanelLanes, group, rows, total);
    }
    if constexpr (kHasMin) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Float min = S::load_half(scales + kPanelLanes + v * S::kWidth);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          total[r][v] = S::fma(min, S::broadcast(rows.groups[r][group].scaled_sum), total[r][v]);
        }
      }
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
template <typename S, ComputeLayout kLayout, bool kHasMin, int kRows>
void int8_panel_tile(const MatmulParams& params, int64_t panel, int64_t row) {
  constexpr int kVectors = S::template kInt8Vectors<kRows>;
  const int64_t num_groups = params.weights.k / kGroup;
  const std::byte* data = params.weights.panels + panel * num_groups * kGroupBytes<kLayout, kHasMin>;
  Int8Rows<kRows> rows;
  for (int r = 0; r < kRows; ++r) {
    rows.values[r] = params.quantized.values + (row + r) * params.weights.k;
    rows.groups[r] = params.quantized.groups + (row + r) * num_groups;
  }
  alignas(64) float sums[kRows * kPanelLanes];
  for (int vector = 0; vector < kPanelVectors<S>; vector += kVectors) {
    int8_tile<S, kLayout, kHasMin, kRows, kVectors>(data, vector, num_groups, rows, sums);
  }
  store_outputs<S>(params, panel, row, kRows, sums);
}

template <typename S, ComputeLayout kLayout, bool kHasMin, int... kRowsLessOne>
void int8_panels(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                 int64_t last_row, std::integer_sequence<int, kRowsLessOne...>) {
  using Tile = void (*)(const MatmulParams&, int64_t, int64_t);
  constexpr Tile kTiles[] = {int8_panel_tile<S, kLayout, kHasMin, kRowsLessOne + 1>...};
  const int tile_rows = even_tile_rows(last_row - first_row, sizeof...(kRowsLessOne));
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t row = first_row; row < last_row; row += tile_rows) {
      const int64_t left = last_row - row;
      kTiles[(left < tile_rows ? left : tile_rows) - 1](params, panel, row);
    }
  }
}

template <typename S>
void matmul_int8(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                 int64_t last_row) {
  constexpr auto kRows = std::make_integer_sequence<int, S::kMaxInt8Rows>{};
  // Unpacking q6 takes more registers: with six rows GCC 12 spills sums.
  constexpr auto kQ6Rows = std::make_integer_sequence<int, (S::kMaxInt8Rows < 4 ? S::kMaxInt8Rows : 4)>{};
  switch (params.weights.format.layout) {
    case ComputeLayout::q8:
      return int8_panels<S, ComputeLayout::q8, false>(params, first_panel, last_panel, first_row, last_row,
                                                      kRows);
    case ComputeLayout::q6:
      return int8_panels<S, ComputeLayout::q6, false>(params, first_panel, last_panel, first_row, last_row,
                                                      kQ6Rows);
    default:
      if (params.weights.format.has_min) {
        return int8_panels<S, ComputeLayout::q4, true>(params, first_panel, last_panel, first_row, last_row,
                                                       kRows);
      }
      return int8_panels<S, ComputeLayout::q4, false>(params, first_panel, last_panel, first_row, last_row,
                                                      kRows);
  }
}

}  // namespace
}  // namespace autoglm::cpu
