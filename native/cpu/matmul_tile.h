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

// The epilogue of one row and panel, by its first `num_cols` lanes or, kIsFull, by all of them.
template <typename S, bool kIsFull>
inline void store_row(const MatmulParams& params, int64_t row, int64_t first_col, int num_cols,
                      typename S::Float factor, const float* sums) {
  const typename S::Float scale = S::broadcast(params.scale);
  float* out = params.out.data + row * params.out.row_stride + first_col;
  const float* bias = params.bias != nullptr ? params.bias + first_col : nullptr;
  const float* residual = params.residual.data != nullptr
                              ? params.residual.data + row * params.residual.row_stride + first_col
                              : nullptr;
#pragma GCC unroll 4
  for (int i = 0; i < kPanelLanes; i += S::kWidth) {
    if (!kIsFull && i >= num_cols) return;
    const int lanes = kIsFull || num_cols - i > S::kWidth ? S::kWidth : num_cols - i;
    const auto load = [lanes](const float* from) {
      return kIsFull ? S::load(from) : S::load_first(from, lanes);
    };
    typename S::Float y = S::mul(S::load(sums + i), factor);
    if (bias != nullptr) y = S::add(y, load(bias + i));
    y = residual != nullptr ? S::fma(scale, y, load(residual + i)) : S::mul(scale, y);
    if (lanes == S::kWidth) {
      S::store(out + i, y);
    } else {
      S::store_first(out + i, y, lanes);
    }
  }
}

// `sums` is [num_rows][32 lanes]: the products of rows first_row.. with one panel.
template <typename S>
void store_outputs(const MatmulParams& params, int64_t panel, int64_t first_row, int num_rows,
                   const float* sums) {
  const int64_t first_col = panel * kPanelRows;
  const int64_t left = params.weights.n - first_col;
  const typename S::Float factor = S::broadcast(params.weights.panel_factors[panel]);
  for (int r = 0; r < num_rows; ++r, sums += kPanelRows) {
    if (left >= kPanelRows) {
      store_row<S, true>(params, first_row + r, first_col, kPanelLanes, factor, sums);
    } else {
      store_row<S, false>(params, first_row + r, first_col, static_cast<int>(left), factor, sums);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
