// repack: codes, scales and mins of panels (base/packed_matrix.h) in the order of weight_order.h.
// Needs:    k % 32 == 0, k % group == 0; one launch at a time for a destination, which was zeroed.
// Rounding: codes are the same, or become code_value; scales are multiplied by panel_factor / row_factor, a
//           power of two.
// Cost:     memory bound: each byte of a panel is read once or twice, each word written once per source.
// Twin:     the index maths of weight_order.h and packed_matrix.h, in the tests.
//
// One block has the words of one slab of a panel of the destination; a thread replaces the codes in its words
// that come from this source.
#include "cuda/device/ptx.cuh"
#include "cuda/quantized/repack.h"
#include "cuda/quantized/weight_order.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 256;

// Row of the source, counted from the range's first, or -1 for a row of another.
__device__ int64_t source_row(const RepackArgs& args, int64_t row) {
  int64_t out = row;
  if (args.mapping != RowMapping::plain) {
    const bool is_up = row / kGateRows % 2 != 0;
    if (is_up != (args.mapping == RowMapping::up)) return -1;
    out = row / (2 * kGateRows) * kGateRows + row % kGateRows;
  }
  out -= args.first_row + args.first_panel * kPanelRows;
  return out < args.num_rows ? out : -1;
}

__device__ int64_t group_bytes(const RepackArgs& args) { return panel_bytes(args.format, kGroup); }

// The group of 32 k that holds column `col` of a row.
__device__ const uint8_t* group_of(const RepackArgs& args, int64_t row, int64_t col) {
  const auto* panels = reinterpret_cast<const uint8_t*>(args.panels);
  return panels + (row / kPanelRows * (args.k / kGroup) + col / kGroup) * group_bytes(args);
}

// Byte j of a quad of k, of lane `lane`: [quad][2 halves][16 lanes][4].
__device__ int lane_byte(const uint8_t* group, int quad, int lane, int j) {
  return group[(quad * kPanelRows + lane) * 4 + j];
}

// The code of the destination: a nibble, or the bits of an int8.
__device__ uint32_t code_of(const RepackArgs& args, int64_t row, int64_t col) {
  const uint8_t* group = group_of(args, row, col);
  const int lane = static_cast<int>(row % kPanelRows);
  const int k = static_cast<int>(col % kGroup);
  const ComputeLayout layout = args.format.layout;
  if (layout == ComputeLayout::q8) return static_cast<uint32_t>(lane_byte(group, k / 4, lane, k % 4));
  uint32_t code = lane_byte(group, k / 8, lane, k % 4) >> (k % 8 / 4 * 4) & 15;
  if (layout == ComputeLayout::q4) return code;
  if (layout == ComputeLayout::q6) {
    const int half = k / 16;
    const uint32_t high = lane_byte(group + 512, half, lane, k % 4);
    code |= (high >> (k % 16 / 4 * 2) & 3) << 4;
  }
  return static_cast<uint32_t>(code_value(layout, args.format.has_min, static_cast<uint8_t>(code))) & 255;
}

__device__ uint32_t repacked_word(const RepackArgs& args, int64_t panel, int64_t slab, int word,
                                  uint32_t old) {
  const int bits = code_bits(args.layout());
  uint32_t out = old;
  // The inverse of code_in_slab: lane, tile and step of the word, then the codes in it.
  const int lane = word / 4 % 32;
  const int tile = bits == 4 ? word / 128 : word / 256;
  const int first_reg = bits == 4 ? 0 : word % 2 * 2;
  const int step = bits == 4 ? word % 4 : word / 128 % 2 * 2 + word / 2 % 2;
  for (int i = 0; i < 32 / bits; ++i) {
    const int reg = first_reg + i / 2;
    const int row = row_of_place({.tile = tile, .half = reg % 2, .lane_row = lane / 4});
    const int col = step * kFragmentK + reg / 2 * 8 + lane % 4 * 2 + i % 2;
    const int64_t from = source_row(args, panel * kPanelRows + row);
    const int64_t in_k = slab * kSlabK + col;
    if (from < 0 || in_k >= args.k) continue;
    const int bit = code_in_slab(bits, row, col).bit;
    const uint32_t mask = (bits == 4 ? 15u : 255u) << bit;
    out = (out & ~mask) | code_of(args, from, in_k) << bit;
  }
  return out;
}

__device__ uint16_t scaled_half(uint16_t half, float factor) {
  return half_of_float(float_of_half(half) * factor);
}

__device__ void repack_scales(const RepackArgs& args, int64_t panel, int64_t slab) {
  const int per_slab = args.group > kSlabK ? 1 : kSlabK / args.group;
  for (int i = thread_x(); i < kPanelRows * per_slab; i += kThreads) {
    const int64_t row = panel * kPanelRows + i % kPanelRows;
    const int64_t col = slab * kSlabK + i / kPanelRows * args.group;
    const int64_t from = source_row(args, row);
    if (from < 0 || col >= args.k || col % args.group != 0) continue;
    const auto* halves =
        reinterpret_cast<const uint16_t*>(group_of(args, from, col) + code_bytes(args.format.layout));
    const int lane = static_cast<int>(from % kPanelRows);
    const int part = static_cast<int>(col % kGroup) * args.format.scales_per_group / static_cast<int>(kGroup);
    float factor = args.panel_factors == nullptr ? 1.0f : args.panel_factors[from / kPanelRows];
    if (args.row_factors != nullptr) factor = factor / args.row_factors[panel];
    const int64_t to = scale_index(args.k, args.group, row, col);
    static_cast<uint16_t*>(args.scales)[to] = scaled_half(halves[part * kPanelRows + lane], factor);
    if (!args.format.has_min) continue;
    const int min_part = args.format.scales_per_group + part;
    static_cast<uint16_t*>(args.mins)[to] = scaled_half(halves[min_part * kPanelRows + lane], factor);
  }
}

__device__ void repack_slab(const RepackArgs& args) {
  const int64_t first = mapped_row(args.mapping, args.first_row + args.first_panel * kPanelRows);
  const int64_t panel = first / kPanelRows + block_y();
  const int64_t slab = block_x();
  const int bytes = slab_bytes(code_bits(args.layout()));
  auto* words = reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(args.weights) +
                                            (panel * num_slabs(args.k) + slab) * bytes);
  for (int word = thread_x(); word < bytes / 4; word += kThreads) {
    words[word] = repacked_word(args, panel, slab, word, words[word]);
  }
  repack_scales(args, panel, slab);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    quantized_repack(const __grid_constant__ autoglm::cuda::RepackArgs args) {
  autoglm::cuda::repack_slab(args);
}
