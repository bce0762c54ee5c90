// A weight matrix [n out, k in] in the memory of a GPU. The repack kernels write it from the panels of
// base/packed_matrix.h; products, and lookups of embeddings, read it.
#pragma once

#include <cstdint>

namespace autoglm::cuda {

// How the weights are stored.
//   bf16  [n][k] bfloat16, row by row; k is even, rows are row_stride elements apart
//   f16   the same of halves
//   w4    unsigned 4-bit codes in the order of quantized/weight_order.h
//   w8    signed 8-bit codes in the order of quantized/weight_order.h
enum class DeviceLayout : uint8_t { bf16, f16, w4, w8 };
constexpr bool is_quantized(DeviceLayout layout) { return layout >= DeviceLayout::w4; }

// The rows of a gated pair share one matrix: 8 rows of gate, 8 of up, 8 of gate, ... so that one thread of a
// product holds both for an output.
inline constexpr int kGateRows = 8;
// Row of the pair's matrix that holds row `row` of gate, or of up.
constexpr int64_t gated_row(int64_t row, bool is_up) {
  return row / kGateRows * (2 * kGateRows) + (is_up ? kGateRows : 0) + row % kGateRows;
}

// Which row of a matrix holds row `row` of a part of it, before the part's own first row is added.
enum class RowMapping : uint8_t { plain, gate, up };
constexpr int64_t mapped_row(RowMapping mapping, int64_t row) {
  return mapping == RowMapping::plain ? row : gated_row(row, mapping == RowMapping::up);
}

// Quantized: weight = row_factor * (code * scale + min), min = -8 * scale for w4 without mins, 0 for w8.
struct DeviceMatrix {
  const void* weights = nullptr;  // 256-byte aligned
  const void* scales = nullptr;   // half, order: quantized/weight_order.h; null for floats
  const void* mins = nullptr;     // optional half, as the scales
  const float* row_factors =
      nullptr;             // optional [ceil(n / 32)]: one for 32 rows, as PackedMatrix::panel_factors
  int32_t n = 0;           // output rows
  int32_t k = 0;           // input columns
  int32_t row_stride = 0;  // floats: elements from one row to the next, a multiple of 8
  int32_t group = 0;       // quantized: k per scale: 16, 32, 64 or 128; k % group == 0
  DeviceLayout layout = DeviceLayout::bf16;
};

}  // namespace autoglm::cuda
