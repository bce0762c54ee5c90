// Scores and weighted sums over int8 pages. Queries and weights become 16-bit integers, so that both products
// are exact sums of integers: 64 keys or all dims of a head fit 32 bits.
#pragma once

#include "cpu/attention_tile.h"

namespace autoglm::cpu {
namespace {

// 64 keys * 127 * this < 2^31.
constexpr float kMaxWeight = 32767;

// Scores of kRows rows with the keys of one page.
template <typename S, int kRows>
inline void score_int8_page(const QueryTile& tile, const std::byte* keys, const std::byte* next_keys,
                            const float* key_scales, int64_t key_dims, float (*scores)[kBlockKeys]) {
  constexpr int kVectors = kPageKeys / S::kWidth;
  const int32_t* q[kRows];
  for (int r = 0; r < kRows; ++r) q[r] = reinterpret_cast<const int32_t*>(tile.q[r]);
  typename S::Int sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = S::broadcast_int(0);
  }
  for (int64_t quad = 0; quad < key_dims / 4; ++quad) {
    prefetch(next_keys + quad * 4 * kPageKeys);
    typename S::Int even[kVectors], odd[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      S::split_bytes(S::load_int(keys + (quad * kPageKeys + v * S::kWidth) * 4), even[v], odd[v]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const typename S::Int first = S::broadcast_int(q[r][2 * quad]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = S::dot_pairs(first, even[v], sum[r][v]);
      const typename S::Int second = S::broadcast_int(q[r][2 * quad + 1]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = S::dot_pairs(second, odd[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const typename S::Float q_scale = S::broadcast(tile.q[r][key_dims / 2]);
    for (int v = 0; v < kVectors; ++v) {
      const typename S::Float scale = S::mul(q_scale, S::load(key_scales + v * S::kWidth));
      S::store(scores[r] + v * S::kWidth, S::mul(S::to_float(sum[r][v]), scale));
    }
  }
}

// The weights of one row of a block, each times its value's scale, as integers.
struct Int8Weights {
  // Keys i and i + 8 of a page share word i. Room for a vector of 16 words at the last page's eight.
  int32_t words[kBlockKeys / 2 + 8];
  float scale;
};

template <typename S>
inline void quantize_weights(const KvPages& kv, const BlockPages& block, const float* weights,
                             Int8Weights& out) {
  alignas(64) float scaled[kBlockKeys + 8];  // 16 are read from a page's eighth on
  const int first = block.first_page * kPageKeys;
  const int last = block.last_page * kPageKeys;
  // As integers, the bits of a NaN beat those of everything else and so reach the scale.
  typename S::Int most = S::broadcast_int(0);
  for (int i = first; i < last; i += S::kWidth) {
    const float* scales = kv.value_scales(block.keys[i / kPageKeys]) + i % kPageKeys;
    const typename S::Float product = S::mul(S::load(weights + i), S::load(scales));
    S::store(scaled + i, product);
    most = S::max_int(most, S::bits_of(product));
  }
  for (int i = 0; i < 8; ++i) scaled[last + i] = 0;
  const float largest = __builtin_bit_cast(float, S::reduce_max_int(most));
  const typename S::Float inverse = S::broadcast(largest > 0 ? kMaxWeight / largest : 0.0f);
  const typename S::Int low_half = S::broadcast_int(0xffff);
  for (int page = block.first_page; page < block.last_page; ++page) {
    for (int i = 0; i < kPageKeys / 2; i += S::kWidth) {
      const float* from = scaled + page * kPageKeys + i;
      const typename S::Int low = S::to_int(S::mul(S::load(from), inverse));
      const typename S::Int high = S::to_int(S::mul(S::load(from + kPageKeys / 2), inverse));
      S::store_int(out.words + page * kPageKeys / 2 + i,
                   S::or_int(S::and_int(low, low_half), S::template shift_left<16>(high)));
    }
  }
  out.scale = largest / kMaxWeight;
}

// partial = factor * partial + weights * V for kVectors vectors of value dims.
template <typename S, int kRows, int kVectors>
inline void add_int8_values(const QueryTile& tile, const BlockPages& block, int64_t stride, int64_t dim,
                            const Int8Weights* weights, const float* factors) {
  typename S::Int sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = S::broadcast_int(0);
  }
  for (int page = block.first_page; page < block.last_page; ++page) {
#pragma GCC unroll 1
    for (int quad = 0; quad < kPageKeys / 4; ++quad) {
      const std::byte* values = block.values[page] + (quad * stride + dim) * 4;
      const int word = page * kPageKeys / 2 + 2 * quad;
      prefetch(block.next_values[page] + (quad * stride + dim) * 4);
      typename S::Int even[kVectors], odd[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        S::split_bytes(S::load_int(values + v * S::kWidth * 4), even[v], odd[v]);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const typename S::Int first = S::broadcast_int(weights[r].words[word]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] = S::dot_pairs(first, even[v], sum[r][v]);
        const typename S::Int second = S::broadcast_int(weights[r].words[word + 1]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] = S::dot_pairs(second, odd[v], sum[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const typename S::Float factor = S::broadcast(factors[r]);
    const typename S::Float scale = S::broadcast(weights[r].scale);
    for (int v = 0; v < kVectors; ++v) {
      float* partial = tile.partial[r] + dim + v * S::kWidth;
      S::store(partial, S::fma(S::to_float(sum[r][v]), scale, S::mul(S::load(partial), factor)));
    }
  }
}

// Pages of int8 keys and values with their scales; the queries of a tile are quantized, too (KvPages).
struct Int8Pages {
  static constexpr bool kIsLatent = false;

  template <typename S, int kRows>
  static void score(const QueryTile& tile, const KvPages& kv, const BlockPages& block,
                    float (*scores)[kBlockKeys]) {
    for (int page = block.first_page; page < block.last_page; ++page) {
      score_int8_page<S, kRows>(tile, block.keys[page], block.next_keys[page],
                                kv.key_scales(block.keys[page]), kv.key_dims(), from_page(scores, page));
    }
  }

  template <typename S, int kRows>
  static void add(const QueryTile& tile, const KvPages& kv, const BlockPages& block,
                  const float (*weights)[kBlockKeys], const float* factors) {
    alignas(64) Int8Weights quantized[kRows];
    for (int r = 0; r < kRows; ++r) quantize_weights<S>(kv, block, weights[r], quantized[r]);
    constexpr int kDimVectors = S::kWidth == 4 ? 4 : 2;  // as many sums as registers hold beside the values
    const int64_t padded = kv.padded_value_dim();
    int64_t dim = 0;
    for (; dim + kDimVectors * S::kWidth <= padded; dim += kDimVectors * S::kWidth) {
      add_int8_values<S, kRows, kDimVectors>(tile, block, kv.stored_dims(), dim, quantized, factors);
    }
    for (; dim < padded; dim += S::kWidth) {
      add_int8_values<S, kRows, 1>(tile, block, kv.stored_dims(), dim, quantized, factors);
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
