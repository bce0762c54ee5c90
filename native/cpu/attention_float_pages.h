// Scores and weighted sums over pages of floats: bf16 and f32, keys apart from values or latents.
#pragma once

#include "cpu/attention_tile.h"

namespace autoglm::cpu {
namespace {

// Reads K and V pages of one dtype as pairs: two dims of 16 keys, two keys of all value dims.
struct Bf16Reader {
  static constexpr int64_t kPairBytes = 4;
  template <typename S>
  static void key_pair(const std::byte* keys, int64_t pair, int first_key, typename S::Float& even,
                       typename S::Float& odd) {
    S::load_bf16_pairs(reinterpret_cast<const uint16_t*>(keys) + (pair * kPageKeys + first_key) * 2, even,
                       odd);
  }
  template <typename S>
  static void value_pair(const std::byte* values, int pair, int64_t padded, int64_t dim,
                         typename S::Float& even, typename S::Float& odd) {
    S::load_bf16_pairs(reinterpret_cast<const uint16_t*>(values) + (pair * padded + dim) * 2, even, odd);
  }
};

struct FloatReader {
  static constexpr int64_t kPairBytes = 8;
  template <typename S>
  static void key_pair(const std::byte* keys, int64_t pair, int first_key, typename S::Float& even,
                       typename S::Float& odd) {
    const float* from = reinterpret_cast<const float*>(keys) + pair * 2 * kPageKeys + first_key;
    even = S::load(from);
    odd = S::load(from + kPageKeys);
  }
  template <typename S>
  static void value_pair(const std::byte* values, int pair, int64_t padded, int64_t dim,
                         typename S::Float& even, typename S::Float& odd) {
    const float* from = reinterpret_cast<const float*>(values) + pair * 2 * padded + dim;
    even = S::load(from);
    odd = S::load(from + padded);
  }
};

// Scores of kRows rows with the keys of one latent page: kWidth chains per score, dims ascending, added in
// the end.
template <typename S, typename Reader, int kRows>
inline void score_latent_page(const QueryTile& tile, const std::byte* keys, int64_t head_dim,
                              float (*scores)[kBlockKeys]) {
  constexpr int kPairs = kRows >= 3   ? 1
                         : kRows == 2 ? 2
                                      : 4;  // eight sums hide the latency of a multiply-add
  for (int first = 0; first < kPageKeys / 2; first += kPairs) {
    typename S::Float even_sum[kRows][kPairs], odd_sum[kRows][kPairs];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) even_sum[r][p] = odd_sum[r][p] = S::zero();
    }
    for (int64_t dim = 0; dim < head_dim; dim += S::kWidth) {
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) {
        typename S::Float even, odd;
        Reader::template value_pair<S>(keys, first + p, head_dim, dim, even, odd);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const typename S::Float q = S::load(tile.q[r] + dim);
          even_sum[r][p] = S::fma(q, even, even_sum[r][p]);
          odd_sum[r][p] = S::fma(q, odd, odd_sum[r][p]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPairs; ++p) {
        scores[r][2 * (first + p)] = S::reduce_add(even_sum[r][p]);
        scores[r][2 * (first + p) + 1] = S::reduce_add(odd_sum[r][p]);
      }
    }
  }
}

// Scores of kRows rows with the keys of kPages pages: one chain per score, dims ascending.
template <typename S, typename Reader, int kRows, int kPages>
inline void score_pages(const QueryTile& tile, const std::byte* const* keys,
                        const std::byte* const* next_keys, int64_t head_dim, float (*scores)[kBlockKeys]) {
  constexpr int kVectors = kPageKeys / S::kWidth;
  typename S::Float sum[kRows][kPages][kVectors];
  for (auto& row : sum) {
    for (auto& page : row) {
      for (auto& each : page) each = S::zero();
    }
  }
  for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
#pragma GCC unroll 4
    for (int page = 0; page < kPages; ++page)
      prefetch(next_keys[page] + pair * kPageKeys * Reader::kPairBytes);
    // Few rows: a pair of query values stays in registers. Many: a pair of key vectors does.
    if constexpr (kRows <= 2) {
#pragma GCC unroll 4
      for (int page = 0; page < kPages; ++page) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          typename S::Float even, odd;
          Reader::template key_pair<S>(keys[page], pair, v * S::kWidth, even, odd);
#pragma GCC unroll 2
          for (int r = 0; r < kRows; ++r) {
            sum[r][page][v] = S::fma(S::broadcast(tile.q[r][2 * pair]), even, sum[r][page][v]);
            sum[r][page][v] = S::fma(S::broadcast(tile.q[r][2 * pair + 1]), odd, sum[r][page][v]);
          }
        }
      }
    } else {
      typename S::Float even[kPages][kVectors], odd[kPages][kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kPages * kVectors; ++i) {
        const int page = i / kVectors;
        const int v = i % kVectors;
        Reader::template key_pair<S>(keys[page], pair, v * S::kWidth, even[page][v], odd[page][v]);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const typename S::Float first = S::broadcast(tile.q[r][2 * pair]);
#pragma GCC unroll 4
        for (int i = 0; i < kPages * kVectors; ++i) {
          auto& each = sum[r][i / kVectors][i % kVectors];
          each = S::fma(first, even[i / kVectors][i % kVectors], each);
        }
        const typename S::Float second = S::broadcast(tile.q[r][2 * pair + 1]);
#pragma GCC unroll 4
        for (int i = 0; i < kPages * kVectors; ++i) {
          auto& each = sum[r][i / kVectors][i % kVectors];
          each = S::fma(second, odd[i / kVectors][i % kVectors], each);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int page = 0; page < kPages; ++page) {
      for (int v = 0; v < kVectors; ++v) {
        S::store(scores[r] + page * kPageKeys + v * S::kWidth, sum[r][page][v]);
      }
    }
  }
}

// partial = factor * partial + weights * V for kVectors vectors of value dims: one chain per dim, keys
// ascending.
template <typename S, typename Reader, int kRows, int kVectors>
inline void add_values(const QueryTile& tile, const BlockPages& block, int64_t stride, int64_t dim,
                       const float (*weights)[kBlockKeys], const float* factors) {
  typename S::Float sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const typename S::Float factor = S::broadcast(factors[r]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = S::mul(S::load(tile.partial[r] + dim + v * S::kWidth), factor);
    }
  }
  for (int page = block.first_page; page < block.last_page; ++page) {
    for (int pair = 0; pair < kPageKeys / 2; ++pair) {
      const int key = page * kPageKeys + 2 * pair;
      prefetch(block.next_values[page] + pair * stride * Reader::kPairBytes + dim * 4);
      if constexpr (kRows <= 2) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          typename S::Float even, odd;
          Reader::template value_pair<S>(block.values[page], pair, stride, dim + v * S::kWidth, even, odd);
#pragma GCC unroll 2
          for (int r = 0; r < kRows; ++r) {
            sum[r][v] = S::fma(S::broadcast(weights[r][key]), even, sum[r][v]);
            sum[r][v] = S::fma(S::broadcast(weights[r][key + 1]), odd, sum[r][v]);
          }
        }
      } else {
        typename S::Float even[kVectors], odd[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          Reader::template value_pair<S>(block.values[page], pair, stride, dim + v * S::kWidth, even[v],
                                         odd[v]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const typename S::Float first = S::broadcast(weights[r][key]);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sum[r][v] = S::fma(first, even[v], sum[r][v]);
          const typename S::Float second = S::broadcast(weights[r][key + 1]);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sum[r][v] = S::fma(second, odd[v], sum[r][v]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) S::store(tile.partial[r] + dim + v * S::kWidth, sum[r][v]);
  }
}

// Pages of keys and values, both read by Reader.
template <typename Reader>
struct FloatPages {
  static constexpr bool kIsLatent = false;

  template <typename S, int kRows>
  static void score(const QueryTile& tile, const KvPages& kv, const BlockPages& block,
                    float (*scores)[kBlockKeys]) {
    // As many pages at once as give eight independent sums.
    constexpr int kVectors = kPageKeys / S::kWidth;
    constexpr int kPages = 8 / (kRows * kVectors) >= 4 ? 4 : 8 / (kRows * kVectors) >= 2 ? 2 : 1;
    int page = block.first_page;
    for (; page + kPages <= block.last_page; page += kPages) {
      score_pages<S, Reader, kRows, kPages>(tile, block.keys + page, block.next_keys + page, kv.head_dim,
                                            from_page(scores, page));
    }
    for (; page < block.last_page; ++page) {
      score_pages<S, Reader, kRows, 1>(tile, block.keys + page, block.next_keys + page, kv.head_dim,
                                       from_page(scores, page));
    }
  }

  // partial = factor * partial + weights * V, for every row.
  template <typename S, int kRows>
  static void add(const QueryTile& tile, const KvPages& kv, const BlockPages& block,
                  const float (*weights)[kBlockKeys], const float* factors) {
    const int64_t padded = kv.padded_value_dim();
    // Eight independent sums hide the latency of a multiply-add; four zmm are 64 dims, a common head size.
    constexpr int kDimVectors = kRows >= 3 ? 2 : kRows == 2 || S::kWidth == 16 ? 4 : 8;
    int64_t dim = 0;
    for (; dim + kDimVectors * S::kWidth <= padded; dim += kDimVectors * S::kWidth) {
      add_values<S, Reader, kRows, kDimVectors>(tile, block, kv.stored_dims(), dim, weights, factors);
    }
    for (; dim < padded; dim += S::kWidth) {
      add_values<S, Reader, kRows, 1>(tile, block, kv.stored_dims(), dim, weights, factors);
    }
  }
};

// Latent pages hold keys the way V is held, and values in their last dims.
template <typename Reader>
struct LatentPages : FloatPages<Reader> {
  static constexpr bool kIsLatent = true;

  template <typename S, int kRows>
  static void score(const QueryTile& tile, const KvPages& kv, const BlockPages& block,
                    float (*scores)[kBlockKeys]) {
    for (int page = block.first_page; page < block.last_page; ++page) {
      score_latent_page<S, Reader, kRows>(tile, block.keys[page], kv.head_dim, from_page(scores, page));
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
