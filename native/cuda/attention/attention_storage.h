// The shared memory of the attention kernels, for the kernels and their launchers. Every instance fits the
// 99 KB that a block has on sm_86, 89 and 120.
#pragma once

#include <type_traits>

#include "cuda/attention/attention.h"
#include "cuda/attention/page_layout.h"

namespace autoglm::cuda {

inline constexpr int kMaxSharedBytes = 99 << 10;
inline constexpr int kStripDims = 16;  // of a value: what one matrix load and two products cover
// Warps that share 16 rows: each has a quarter of a block's keys, then a quarter of the value's strips.
inline constexpr int kSharingWarps = 4;

// What an instance of the kernels is compiled for.
template <int kKeyDims, int kValueDims, KvType kKvType>
struct AttentionShape {
  static constexpr int kKeyDim = kKeyDims;
  static constexpr int kValueDim = kValueDims;
  static constexpr KvType kType = kKvType;
  static constexpr bool kIsLatent = kKeyDim != kValueDim;
  static constexpr bool kHasScales = has_scales(kType);
  static constexpr KvLayout kPage{1, kKeyDim, kType, kIsLatent};
  static constexpr int kRowBytes = kPage.row_bytes();
  static constexpr int64_t kHeadBytes = kPage.head_bytes();
  static constexpr int64_t kValueOffset = kPage.value_offset();
  static constexpr int64_t kKeyScaleOffset = kPage.key_scale_offset();
  static constexpr int64_t kValueScaleOffset = kPage.value_scale_offset();
  static constexpr int kStrips = kValueDim / kStripDims;
  static constexpr int kStripsPerWarp = (kStrips + kSharingWarps - 1) / kSharingWarps;
  // Where the value's dims begin in a stored row.
  static constexpr int kFirstValueByte = (kKeyDim - kValueDim) * element_bytes(kType);
  // Bytes of the keys and of the values of one block, in shared memory.
  static constexpr int kKeyBytes = kKeyBlock * kRowBytes;
  static constexpr int kValueBytes = kIsLatent ? 0 : kKeyBytes;
  static constexpr int kScaleBytes = kHasScales ? kKeyBlock * static_cast<int>(sizeof(float)) : 0;
  // Latents are too long to unroll whole: four steps of 16 dims are one period of the swizzle.
  static constexpr int kUnrolledDepths = kIsLatent ? 4 : kKeyDim / 16;
  static_assert(!kIsLatent || kType == KvType::bf16);
};

template <int kDim, KvType kType>
using DenseShape = AttentionShape<kDim, kDim, kType>;
template <int kKeyDim, int kValueDim>
using LatentShape = AttentionShape<kKeyDim, kValueDim, KvType::bf16>;

// One block of keys and values as in the pages, swizzle included, with their scales behind them.
template <class Shape>
struct alignas(128) KvBlock {
  uint8_t bytes[Shape::kKeyBytes + Shape::kValueBytes + 2 * Shape::kScaleBytes];

  constexpr uint8_t* keys() { return bytes; }
  constexpr uint8_t* values() { return bytes + (Shape::kIsLatent ? 0 : Shape::kKeyBytes); }
  constexpr uint8_t* key_scales() { return bytes + Shape::kKeyBytes + Shape::kValueBytes; }
  constexpr uint8_t* value_scales() { return key_scales() + Shape::kScaleBytes; }
};

// Two neighbours of a row, moved at once.
struct alignas(8) Couple {
  float low;
  float high;
};

inline constexpr int kScoreCouples = kKeyBlock / 2 + 4;  // rows of a fragment fall in different banks

// Of blocks whose warps share rows: kRowTiles times 16 rows and 4 warps.
template <class Shape, int kTiles>
struct SharedRowsStorage {
  static constexpr int kRowTiles = kTiles;
  static constexpr int kThreads = kTiles * kSharingWarps * 32;
  KvBlock<Shape> block;
  Couple scores[kTiles][16][kScoreCouples];
  uint32_t is_last;
};

// The same, with queries that are too long for registers. They lie as keys do in a page.
template <class Shape, int kTiles>
struct LatentRowsStorage : SharedRowsStorage<Shape, kTiles> {
  alignas(128) uint8_t queries[kTiles][16 * Shape::kRowBytes];
};

// Of blocks in which each of four warps has rows of its own, heads of at most 128 dims.
template <class Shape>
struct OwnRowsStorage {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * 32;
  KvBlock<Shape> block;
  // What the splits before the current one came to; each thread reads what it wrote.
  float merged[Shape::kValueDim / 2][kThreads];
};

template <class Shape>
struct StorageOf {
  static constexpr int kPrefillPairs = prefill_pairs(Shape::kKeyDim, Shape::kIsLatent);
  using Decode =
      std::conditional_t<Shape::kIsLatent, LatentRowsStorage<Shape, 1>, SharedRowsStorage<Shape, 1>>;
  using PrefillShared = std::conditional_t<Shape::kIsLatent, LatentRowsStorage<Shape, kPrefillPairs / 16>,
                                           SharedRowsStorage<Shape, kPrefillPairs / 16>>;
  static constexpr bool kPrefillSharesRows = Shape::kIsLatent || Shape::kKeyDim > 128;
  using Prefill = std::conditional_t<kPrefillSharesRows, PrefillShared, OwnRowsStorage<Shape>>;
  static_assert(sizeof(Decode) <= kMaxSharedBytes && sizeof(Prefill) <= kMaxSharedBytes);
};

}  // namespace autoglm::cuda
