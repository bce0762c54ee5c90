// Bf16 panels times activations rounded to bf16, for AVX-512 BF16. `vdpbf16ps` adds two products to each
// lane, so there is one accumulation chain per output, pairs of columns ascending: the same for any number of
// rows.
#pragma once

#include <utility>

#include "cpu/matmul_tile.h"
#include "cpu/simd_avx512.h"

namespace autoglm::cpu {
namespace {

constexpr int kBf16RowBlock = 60;  // five full tiles: 8 KB of sums, and 15 KB of activations
constexpr int kBf16BlockPairs = 64;
constexpr int kMaxBf16Rows = 12;  // x 2 vectors of sums, 2 of weights

// Activations of one tile, two columns a word. A row has kBf16BlockPairs words.
using Bf16Pairs = const uint32_t*;

// Columns [first, first + count) of a row, zeros behind an odd last one.
inline void round_to_bf16(const float* in, int count, uint32_t* out) {
  for (int col = 0; col < count; col += Avx512::kWidth) {
    const int lanes = count - col < Avx512::kWidth ? count - col : Avx512::kWidth;
    const __m256bh rounded = _mm512_cvtneps_pbh(Avx512::load_first(in + col, lanes));
    __builtin_memcpy(out + col / 2, &rounded, sizeof(rounded));
  }
}

inline __m512 add_pairs(__m512 sum, __m512i weights, __m512i activations) {
  return _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, weights),
                          __builtin_bit_cast(__m512bh, activations));
}

// Adds `num_pairs` pairs of columns to sums[kRows][32 lanes].
template <int kRows>
void multiply_bf16(const std::byte* weights, int num_pairs, Bf16Pairs pairs, float* sums) {
  __m512 total[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    total[r][0] = Avx512::load(sums + r * kPanelLanes);
    total[r][1] = Avx512::load(sums + r * kPanelLanes + Avx512::kWidth);
  }
  for (int i = 0; i < num_pairs; ++i) {
    const __m512i low = Avx512::load_int(weights + i * 128);
    const __m512i high = Avx512::load_int(weights + i * 128 + 64);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const __m512i pair = Avx512::broadcast_int(static_cast<int32_t>(pairs[r * kBf16BlockPairs + i]));
      total[r][0] = add_pairs(total[r][0], low, pair);
      total[r][1] = add_pairs(total[r][1], high, pair);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    Avx512::store(sums + r * kPanelLanes, total[r][0]);
    Avx512::store(sums + r * kPanelLanes + Avx512::kWidth, total[r][1]);
  }
}

template <int... kRowsLessOne>
void bf16_panel(const MatmulParams& params, int64_t panel, int64_t first_row, int num_rows,
                std::integer_sequence<int, kRowsLessOne...>) {
  using Multiply = void (*)(const std::byte*, int, Bf16Pairs, float*);
  constexpr Multiply kMultiply[] = {multiply_bf16<kRowsLessOne + 1>...};
  const PackedMatrix& weights = params.weights;
  const std::byte* data = weights.panels + panel * panel_bytes(weights.format, weights.k);
  const int tile_rows = even_tile_rows(num_rows, sizeof...(kRowsLessOne));
  alignas(64) uint32_t pairs[kBf16RowBlock * kBf16BlockPairs];
  alignas(64) float sums[kBf16RowBlock * kPanelLanes];
  __builtin_memset(sums, 0, num_rows * kPanelLanes * sizeof(float));
  for (int64_t col = 0; col < weights.k; col += 2 * kBf16BlockPairs) {
    const int64_t left = weights.k - col;
    const int count = static_cast<int>(left < 2 * kBf16BlockPairs ? left : 2 * kBf16BlockPairs);
    for (int row = 0; row < num_rows; ++row) {
      const float* in = params.in.data + (first_row + row) * params.in.row_stride + col;
      round_to_bf16(in, count, pairs + row * kBf16BlockPairs);
    }
    for (int row = 0; row < num_rows; row += tile_rows) {
      const int rows = num_rows - row < tile_rows ? num_rows - row : tile_rows;
      kMultiply[rows - 1](data + col / 2 * 128, (count + 1) / 2, pairs + row * kBf16BlockPairs,
                          sums + row * kPanelLanes);
    }
  }
  store_outputs<Avx512>(params, panel, first_row, num_rows, sums);
}

inline void matmul_bf16(const MatmulParams& params, int64_t first_panel, int64_t last_panel,
                        int64_t first_row, int64_t last_row) {
  constexpr auto kRows = std::make_integer_sequence<int, kMaxBf16Rows>{};
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t row = first_row; row < last_row; row += kBf16RowBlock) {
      const int64_t left = last_row - row;
      bf16_panel(params, panel, row, static_cast<int>(left < kBf16RowBlock ? left : kBf16RowBlock), kRows);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
