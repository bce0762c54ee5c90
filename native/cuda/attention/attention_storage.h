// The shared memory of the attention kernels, for the kernels and their launchers.
#pragma once

#include "cuda/attention/attention.h"
#include "cuda/attention/page_layout.h"

namespace autoglm::cuda {

inline constexpr int kAttentionWarps = 4;
inline constexpr int kAttentionThreads = kAttentionWarps * 32;
inline constexpr int kAttentionStages = 2;
inline constexpr int kPagesPerBlock = kKeyBlock / kPageTokens;

// One block of keys and values: four pages' tiles, swizzled as in the pages.
template <int kHeadDim>
struct alignas(128) KvStage {
  Bf16 keys[kKeyBlock * kHeadDim];
  Bf16 values[kKeyBlock * kHeadDim];
};

inline constexpr int kScoreStride = kKeyBlock + 8;  // floats; rows of a fragment fall in different banks

template <int kHeadDim>
struct DecodeStorage {
  KvStage<kHeadDim> stages[kAttentionStages];
  float scores[kDecodePairs][kScoreStride];
  uint32_t is_last;
};

template <int kHeadDim>
struct PrefillStorage {
  KvStage<kHeadDim> stages[kAttentionStages];
  // What the splits before the current one came to; each thread reads what it wrote.
  float merged[kHeadDim / 2][kAttentionThreads];
};

}  // namespace autoglm::cuda
