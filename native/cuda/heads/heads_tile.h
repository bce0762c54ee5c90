// The tiles of heads_product.cu and where their elements lie in shared memory, as index maths alone.
#pragma once

#include <cstdint>

#include "cuda/bf16.h"

namespace autoglm::cuda {

inline constexpr int kHeadsWarps = 4;
inline constexpr int kHeadsThreads = kHeadsWarps * 32;
inline constexpr int kHeadsChunk = 8;  // elements of one copy of 16 bytes

// Decode: as many blocks as the weights give, each of which reads 8 KiB of them at a time.
struct FewRows {
  static constexpr int kRows = 16;
  static constexpr int kCols = 32;
  static constexpr int kDepth = 128;
  static constexpr int kStages = 3;
  static constexpr int kRowWarps = 1;
};
// Prefill: each warp multiplies 32 rows by 32 columns, 4 matrix loads of each side for 16 products.
struct ManyRows {
  static constexpr int kRows = 64;
  static constexpr int kCols = 64;
  static constexpr int kDepth = 64;
  static constexpr int kStages = 3;
  static constexpr int kRowWarps = 2;
};
inline constexpr int kMaxFewRows =
    32;  // two tiles of FewRows fill no less of the device than half of ManyRows

// Element offset of a chunk in a tile of rows of kDepth. Rows of a multiple of 128 bytes: the 8 rows of a
// matrix load meet 8 different groups of banks, and so do the 8 threads of a quarter-warp that store one row.
template <int kDepth>
constexpr int chunk_offset(int row, int chunk) {
  static_assert(kDepth % 64 == 0);
  return row * kDepth + (chunk ^ row % 8) * kHeadsChunk;
}

template <typename Tile>
struct alignas(128) HeadsStage {
  Bf16 in[Tile::kRows * Tile::kDepth];
  Bf16 w[Tile::kCols * Tile::kDepth];
};

template <typename Tile>
struct HeadsStorage {
  HeadsStage<Tile> stages[Tile::kStages];
};

}  // namespace autoglm::cuda
