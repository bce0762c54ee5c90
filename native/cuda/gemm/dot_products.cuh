// Products of a few rows of bf16 with a few rows of weights, of bf16 or f16, by one block without tensor
// cores. Rounding: f32. Thread t sums chunks t, t + 128, ... of a row, k ascending; then pairs of lanes 16,
// 8, 4, 2 and 1 apart; then the warps in order. So a product's bits depend on its two rows alone. Cost:
// memory bound, 2 bytes of weights per 2 kRows flops.
#pragma once

#include "cuda/device/ptx.cuh"
#include "cuda/gemm/gemm_storage.h"

namespace autoglm::cuda {

inline constexpr int kGemvWarps = kGemvThreads / kWarpSize;

template <int kRows>
struct GemvStorage {
  float sums[kGemvWarps][kRows * kGemvWeightRows];
};

__device__ inline float low_of(uint32_t word) { return float_of_bits(word << 16); }
__device__ inline float high_of(uint32_t word) { return float_of_bits(word & 0xffff0000u); }

// The two weights of a word.
template <DeviceLayout kLayout>
__device__ float low_weight(uint32_t word) {
  return kLayout == DeviceLayout::f16 ? float_of_half(static_cast<uint16_t>(word)) : low_of(word);
}
template <DeviceLayout kLayout>
__device__ float high_weight(uint32_t word) {
  return kLayout == DeviceLayout::f16 ? float_of_half(static_cast<uint16_t>(word >> 16)) : high_of(word);
}

// The total of values[i] over the warp, in the lanes whose upper bits are i: lane / (32 / kCount) == i. Lanes
// hand half of what they have to each other, so that kCount totals take kCount - 1 shuffles and the rest.
template <int kCount>
__device__ float totals_of_warp(float (&values)[kCount]) {
  static_assert(kCount <= kWarpSize);
  const int lane = thread_x() % kWarpSize;
#pragma unroll
  for (int turn = 0; turn < 5; ++turn) {
    const int mask = kWarpSize / 2 >> turn;
    const int num_kept = kCount >> (turn + 1);
    if (num_kept == 0) values[0] += shuffle_xor(values[0], mask);
#pragma unroll
    for (int i = 0; i < num_kept; ++i) {
      const bool keeps_upper = (lane & mask) != 0;
      const float kept = keeps_upper ? values[i + num_kept] : values[i];
      const float given = keeps_upper ? values[i] : values[i + num_kept];
      values[i] = kept + shuffle_xor(given, mask);
    }
  }
  return values[0];
}

// storage.sums, summed over the warps, is then sum(weights[i][j] * in[row][j]) at [i * kRows + row].
template <int kRows, DeviceLayout kLayout>
__device__ void dot_products(const Bf16* const (&in)[kRows],
                             const uint16_t* const (&weights)[kGemvWeightRows], int k,
                             GemvStorage<kRows>& storage) {
  constexpr int kCount = kRows * kGemvWeightRows;
  const uint64_t policy = evict_first_policy();
  float sums[kCount] = {};
#pragma unroll 1
  for (int first = thread_x() * kChunkBf16s; first < k; first += kGemvThreads * kChunkBf16s) {
    Words4 words[kGemvWeightRows];
#pragma unroll
    for (int i = 0; i < kGemvWeightRows; ++i) words[i] = load_words_with_policy(weights[i] + first, policy);
    Words4 x[kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) x[row] = *reinterpret_cast<const Words4*>(in[row] + first);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const uint32_t weight = words[i / kRows].word[word];
        sums[i] = multiply_add(low_weight<kLayout>(weight), low_of(x[i % kRows].word[word]), sums[i]);
        sums[i] = multiply_add(high_weight<kLayout>(weight), high_of(x[i % kRows].word[word]), sums[i]);
      }
    }
  }
  const float total = totals_of_warp<kCount>(sums);
  const int lane = thread_x() % kWarpSize;
  constexpr int kLanes = kWarpSize / kCount;  // that have the same total
  if (lane % kLanes == 0) storage.sums[thread_x() / kWarpSize][lane / kLanes] = total;
  sync_threads();
}

template <int kRows>
__device__ float sum_of_warps(const GemvStorage<kRows>& storage, int index) {
  float sum = storage.sums[0][index];
#pragma unroll
  for (int warp = 1; warp < kGemvWarps; ++warp) sum += storage.sums[warp][index];
  return sum;
}

}  // namespace autoglm::cuda
