// Which tile of the output a block computes, how k is cut, and where a chunk of an operand lies in shared
// memory, as index maths alone.
#pragma once

#include <cstdint>

namespace autoglm::cuda {

inline constexpr int kChunkBf16s = 8;  // 16 bytes, what one copy moves

// Place of chunk `chunk` of row `row` in a stage, in chunks. Rows of 4 or 8 chunks: the 8 rows of one matrix
// load then meet 8 different groups of banks.
constexpr int place_in_stage(int row, int chunk, int chunks_per_row) {
  const int rows_per_line = 8 / chunks_per_row;  // rows in the 128 bytes of all banks
  return row * chunks_per_row + (chunk ^ (row / rows_per_line & (chunks_per_row - 1)));
}

struct TileIndex {
  int32_t row;
  int32_t col;

  bool operator==(const TileIndex&) const = default;
};

// Tiles in bands of `band` row tiles, and down the columns inside a band: blocks that run at the same time
// share their rows and their weights through the L2 cache.
constexpr TileIndex tile_of_block(int32_t block, int32_t num_row_tiles, int32_t num_col_tiles, int32_t band) {
  const int32_t first = block / (band * num_col_tiles) * band;
  const int32_t in_band = block - first * num_col_tiles;
  const int32_t height = num_row_tiles - first < band ? num_row_tiles - first : band;
  return {first + in_band % height, in_band / height};
}

// The sum over k of one output, cut in `count` parts of `split_k` each, the last one shorter.
struct KSplits {
  int32_t count;
  int32_t split_k;
};

inline constexpr int32_t kMaxSplitRows = 128;  // products of more rows have blocks enough without
inline constexpr int32_t kSplitUnit = 64;      // the longest step of a tile along k
inline constexpr int32_t kMinSplitK = 512;     // 8 steps: a pipeline's start costs 3
inline constexpr int32_t kMaxSplits = 16;
inline constexpr int32_t kWantedBlocks = 264;  // two for each of the 132 multiprocessors of an H200

// From n and k alone, so that the bits of a row are the same whatever else is in its batch.
constexpr KSplits splits_of_matrix(int32_t n, int32_t k) {
  const int32_t by_width = kWantedBlocks / ((n + 63) / 64);
  const int32_t by_depth = k / kMinSplitK;
  int32_t wanted = by_width < by_depth ? by_width : by_depth;
  wanted = wanted < 1 ? 1 : wanted > kMaxSplits ? kMaxSplits : wanted;
  const int32_t units = (k + kSplitUnit - 1) / kSplitUnit;
  const int32_t split_k = (units + wanted - 1) / wanted * kSplitUnit;
  return {(k + split_k - 1) / split_k, split_k};
}

// Products of many rows, or of several experts, are not split.
constexpr KSplits splits_of_product(int32_t n, int32_t k, int32_t num_rows, int32_t num_experts) {
  const bool is_split = num_rows <= kMaxSplitRows && num_experts == 0;
  return is_split ? splits_of_matrix(n, k) : KSplits{1, (k + kSplitUnit - 1) / kSplitUnit * kSplitUnit};
}

// Splits need at most kWantedBlocks / 2 tiles of 64 columns, two row tiles only where tiles have 128 columns.
inline constexpr int32_t kGemmTickets = 256;

}  // namespace autoglm::cuda
