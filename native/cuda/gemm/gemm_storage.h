// The tiles of the products with float weights and their shared memory, for the kernels and their launcher.
#pragma once

#include <cstdint>

#include "cuda/gemm/tile_order.h"
#include "cuda/product.h"

namespace autoglm::cuda {

// A block computes kRows x kCols outputs, a warp kWarpRows x kWarpCols of them, kDepth of k per step, with
// kStages - 1 steps under way. kBlocks: how many are to fit in a multiprocessor's registers.
template <int kRowsOf, int kColsOf, int kDepthOf, int kStagesOf, int kWarpRowsOf, int kWarpColsOf,
          int kBlocksOf>
struct GemmTile {
  static constexpr int kRows = kRowsOf;
  static constexpr int kCols = kColsOf;
  static constexpr int kDepth = kDepthOf;
  static constexpr int kStages = kStagesOf;
  static constexpr int kWarpRows = kWarpRowsOf;
  static constexpr int kWarpCols = kWarpColsOf;
  static constexpr int kBlocks = kBlocksOf;
  static constexpr int kWarpsDown = kRows / kWarpRows;
  static constexpr int kThreads = kWarpsDown * (kCols / kWarpCols) * 32;
  static constexpr int kRowTiles = kWarpRows / 16;  // of an m16n8k16
  static constexpr int kColTiles = kWarpCols / 8;
  static constexpr int kSteps = kDepth / 16;
  static constexpr int kChunks = kDepth / kChunkBf16s;  // of a row, per step
  static constexpr int kCopyRows = kThreads / kChunks;  // rows that all threads copy in one turn
  static constexpr int kInCopies = kRows / kCopyRows;
  static constexpr int kWeightCopies = kCols / kCopyRows;
  static constexpr bool kMaySplit = kRows <= 64;
  static constexpr bool kStreamsWeights = kRows <= 32;  // few rows: no other block reads the same weights
  static constexpr int kBand = 2048 / kRows;            // row tiles; see tile_of_block

  static_assert(kSplitUnit % kDepth == 0 && kSteps % 2 == 0 && kWarpCols % 16 == 0);
  static_assert(kRows % kCopyRows == 0 && kCols % kCopyRows == 0 && kCopyRows % 8 == 0);
};

// Weights are the larger operand of the small tiles, which are bound by memory: whole lines of 128 bytes.
using Tile16x64 = GemmTile<16, 64, 64, 4, 16, 16, 5>;
using Tile32x64 = GemmTile<32, 64, 64, 4, 32, 16, 4>;
using Tile64x128 = GemmTile<64, 128, 64, 3, 32, 64, 3>;
// Bound by shared memory: warps of 64 x 64 read the fewest bytes per product that registers allow. Four
// stages fit in the 99 KiB that a block may have on sm_86, sm_89 and sm_120.
using Tile128x128 = GemmTile<128, 128, 32, 4, 64, 64, 2>;
using Tile128x256 = GemmTile<128, 256, 32, 4, 64, 64, 1>;

template <typename Tile>
struct alignas(128) GemmStage {
  Bf16 in[Tile::kRows * Tile::kDepth];
  uint16_t weights[Tile::kCols * Tile::kDepth];  // bfloat16 or halves
};

// 16 rows of a warp's sums on their way out. The padding puts the rows of a fragment in different banks.
template <typename Tile>
struct alignas(16) GemmSlab {
  static constexpr int kStride = Tile::kWarpCols + 8;
  float sums[16 * kStride];
};

template <typename Tile>
struct GemmStorage {
  union {
    GemmStage<Tile> stages[Tile::kStages];
    GemmSlab<Tile> slabs[Tile::kThreads / 32];  // after the last step
  };
  uint32_t is_last;
};

// Workspace of a split product: tickets, one per tile, then partial sums [tiles][splits][kRows * kCols].
inline constexpr int64_t kGemmTicketBytes = int64_t{kGemmTickets} * 4;

inline constexpr int kGemvThreads = 128;
inline constexpr int kGemvWeightRows = 8;  // of one block; of a gated pair 4 of gate and 4 of up

}  // namespace autoglm::cuda
