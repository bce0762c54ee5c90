// The order of quantized weights in the memory of a GPU, for the kernels that write and that read it.
//
// Rows come in panels of 32, k in slabs of 64; both are padded, with scales of 0. A panel's slabs follow each
// other, so that a warp which multiplies a panel reads one stream. In a slab each lane has what it multiplies
// as the first operand of m16n8k16 (two tiles of 16 rows, four steps of 16 k), as words of 16 bytes:
//   w4   [tile][lane][step] words; nibble r holds register r's low, nibble r + 4 its high bfloat16
//   w8   [tile][step / 2][lane][step % 2][2] words; byte 0 of word i holds the low bfloat16 of register 2 i,
//        byte 2 the high one, bytes 1 and 3 those of register 2 i + 1
// Halfword pairs come out of a word by shift and mask (dequantize.cuh). A lane's four rows of a panel are
// r, r + 1, r + 8 and r + 9: two neighbours for a store, and the gate and up rows of gated_row.
//
// Scales, and mins likewise: [panel][unit][lane / 4][group of the unit][row of the lane] halves, where a unit
// is max(64, group) k and the row is 2 * tile + half of the tile.
#pragma once

#include <cstdint>

#include "base/packed_matrix.h"
#include "cuda/device_matrix.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kSlabK = 64;       // whole lines of 128 bytes of the activations
inline constexpr int kFragmentK = 16;   // k of one m16n8k16
inline constexpr int kLaneRows = 4;     // rows of a panel that one lane holds
inline constexpr int kRowLanes = 8;     // lanes that hold different rows
inline constexpr int kPieceBytes = 16;  // what one load or copy of a thread moves

constexpr int64_t num_panels(int64_t n) { return ceil_div(n, kPanelRows); }
constexpr int64_t num_slabs(int64_t k) { return ceil_div(k, kSlabK); }
constexpr int code_bits(DeviceLayout layout) { return layout == DeviceLayout::w4 ? 4 : 8; }
// Rows that the memory holds, those beyond n as padding.
constexpr int64_t padded_n(int64_t n) { return num_panels(n) * kPanelRows; }

// Where a row of a panel is in the fragments of its two tiles.
struct PanelPlace {
  int tile;
  int half;  // of the tile: rows lane / 4, or lane / 4 + 8
  int lane_row;
};
constexpr PanelPlace place_in_panel(int row) { return {row % 2, row / 8 % 2, row / 16 * 4 + row % 8 / 2}; }
constexpr int row_of_place(const PanelPlace& place) {
  return place.lane_row / 4 * 16 + place.half * 8 + place.lane_row % 4 * 2 + place.tile;
}

constexpr int slab_bytes(int bits) { return static_cast<int>(kPanelRows) * kSlabK * bits / 8; }

// A code of a slab: the number of its 32-bit word and its lowest bit there.
struct CodePlace {
  int word;
  int bit;
};
constexpr CodePlace code_in_slab(int bits, int row, int col) {
  const PanelPlace place = place_in_panel(row);
  const int lane = place.lane_row * 4 + col % 8 / 2;
  const int step = col / kFragmentK;
  const int reg = place.half + col % kFragmentK / 8 * 2;
  const int is_high = col % 2;
  if (bits == 4) return {(place.tile * 32 + lane) * 4 + step, 4 * reg + 16 * is_high};
  return {((place.tile * 2 + step / 2) * 32 + lane) * 4 + step % 2 * 2 + reg / 2, reg % 2 * 8 + 16 * is_high};
}
// First byte of the slab that holds (row, col).
constexpr int64_t slab_offset(int bits, int64_t k, int64_t row, int64_t col) {
  return (row / kPanelRows * num_slabs(k) + col / kSlabK) * slab_bytes(bits);
}

constexpr int unit_k(int group) { return group > kSlabK ? group : kSlabK; }
// 64 / group, or 1, without a division: the products ask for it with every slab.
constexpr int groups_of_unit(int group) { return group == 16 ? 4 : group == 32 ? 2 : 1; }
constexpr int64_t num_units(int64_t k, int group) {
  return group > kSlabK ? k / (2 * kSlabK) : (k + kSlabK - 1) / kSlabK;
}
constexpr int unit_of_slab(int slab, int group) { return group > kSlabK ? slab / 2 : slab; }
constexpr int unit_scales(int group) { return static_cast<int>(kPanelRows) * groups_of_unit(group); }
// Place of the scale of (row, col), in halves.
constexpr int64_t scale_index(int64_t k, int group, int64_t row, int64_t col) {
  const PanelPlace place = place_in_panel(static_cast<int>(row % kPanelRows));
  const int in_unit = static_cast<int>(col % unit_k(group)) / group;
  const int64_t unit = row / kPanelRows * num_units(k, group) + col / unit_k(group);
  return unit * unit_scales(group) + (place.lane_row * groups_of_unit(group) + in_unit) * kLaneRows +
         place.tile * 2 + place.half;
}

// Memory of a matrix, multiples of 64 bytes. Its padding is all zeros.
constexpr int64_t weights_bytes(DeviceLayout layout, int64_t n, int64_t k) {
  return num_panels(n) * num_slabs(k) * slab_bytes(code_bits(layout));
}
constexpr int64_t scales_bytes(int64_t n, int64_t k, int group) {
  return num_panels(n) * num_units(k, group) * unit_scales(group) * 2;
}

}  // namespace autoglm::cuda
