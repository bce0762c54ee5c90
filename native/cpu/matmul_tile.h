// What the int8 and the float product share: how rows are cut in tiles, and the way from accumulators to
// outputs. Contract: MatmulParams in base/op_params.h; panels: base/packed_matrix.h.
#pragma once

#include "base/op_params.h"

namespace autoglm::cpu {
namespace {

constexpr int kPanelLanes = static_cast<int>(kPanelRows);
constexpr int kGroupCols = static_cast<int>(kGroup);

// Vectors that hold the outputs of one panel.
template <typename S>
constexpr int kPanelVectors = kPanelLanes / S::kWidth;

// Rows per tile when `num_rows` are cut in tiles of at most `max_rows`: as even as possible, since the
// weights are unpacked once per tile.
inline int even_tile_rows(int64_t num_rows, int max_rows) {
  const int64_t num_tiles = (num_rows + max_rows - 1) / max_rows;
  return static_cast<int>((num_rows + num_tiles - 1) / num_tiles);
}

// `sums` is [num_rows][32 lanes]: the products of rows first_row.. with one panel.
template <typename S>
void store_outputs(const MatmulParams& params, int64_t panel, int64_t first_row, int num_rows,
                   const float* sums) {
  const int64_t first_col = panel * kPanelRows;
  const int64_t left = params.weights.n - first_col;
  const int num_cols = static_cast<int>(left < kPanelRows ? left : kPanelRows);
  const typename S::Float factor = S::broadcast(params.weights.panel_factors[panel]);
  const typename S::Float scale = S::broadcast(params.scale);
  for (int r = 0; r < num_rows; ++r) {
    float* out = params.out.data + (first_row + r) * params.out.row_stride + first_col;
    for (int i = 0; i < num_cols; i += S::kWidth) {
      const int lanes = num_cols - i < S::kWidth ? num_cols - i : S::kWidth;
      typename S::Float y = S::mul(S::load(sums + r * kPanelRows + i), factor);
      if (params.bias != nullptr) y = S::add(y, S::load_first(params.bias + first_col + i, lanes));
      if (params.residual.data != nullptr) {
        const float* residual =
            params.residual.data + (first_row + r) * params.residual.row_stride + first_col;
        y = S::fma(scale, y, S::load_first(residual + i, lanes));
      } else {
        y = S::mul(scale, y);
      }
      if (lanes == S::kWidth) {
        S::store(out + i, y);
      } else {
        S::store_first(out + i, y, lanes);
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
