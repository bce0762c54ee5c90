// Attention of some query rows of one KV head over the pages of one sequence, and the merge of its splits.
// Contract: AttentionParams in base/op_params.h; tasks: AttentionTask in cpu/kernel_table.h.
//
// A query row is one (token, query head) pair; all query heads of a KV head share each load of K and V.
// Softmax runs in powers of two, with a running maximum per block of 64 keys. Blocks and splits lie at
// absolute positions and a row skips what it cannot see, so its bits depend on nothing but its own sequence.
// Source: the running softmax of Milakov and Gimelshein 2018; splits as in Flash-Decoding (Dao et al. 2023).
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/quantize_kernel.h"
#include "cpu/vector_math.h"

namespace autoglm::cpu {
namespace {

constexpr int kBlockKeys = 64;  // four pages: enough independent sums to hide the latency of a multiply-add
constexpr int kPageKeys = static_cast<int>(kPageSize);
constexpr int kBlockPages = kBlockKeys / kPageKeys;
constexpr int kMaxTileRows = 4;
constexpr float kNoScore = -__builtin_inff();

// Positions [first, last) that a query row may see.
struct KeyRange {
  int64_t first;
  int64_t last;
};

inline KeyRange visible_keys(const AttentionParams& params, const SequenceSlice& sequence, int64_t token) {
  const int64_t end = sequence.start + sequence.count;
  if (!params.is_causal) return {0, end};
  const int64_t last = sequence.start + token + 1;
  const bool is_limited = params.sliding_window > 0 && last > params.sliding_window;
  return {is_limited ? last - params.sliding_window : 0, last};
}

// The query rows that are computed together.
struct QueryTile {
  int num_rows;
  const float* q[kMaxTileRows];
  KeyRange keys[kMaxTileRows];
  float* partial[kMaxTileRows];  // {values [padded], maximum, sum}
};

// Reads K and V pages of one dtype as pairs: two dims of 16 keys, two keys of all value dims.
struct Bf16Pages {
  static constexpr bool kIsLatent = false;
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

struct FloatPages {
  static constexpr bool kIsLatent = false;
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

// Latent pages hold keys the way V is held, and values in their last dims.
template <typename Pages>
struct Latent : Pages {
  static constexpr bool kIsLatent = true;
};

// Scores of kRows rows with the keys of one latent page: kWidth chains per score, dims ascending, added in
// the end.
template <typename S, typename Pages, int kRows>
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
        Pages::template value_pair<S>(keys, first + p, head_dim, dim, even, odd);
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
template <typename S, typename Pages, int kRows, int kPages>
inline void score_pages(const QueryTile& tile, const std::byte* const* keys, int64_t head_dim,
                        float (*scores)[kBlockKeys]) {
  constexpr int kVectors = kPageKeys / S::kWidth;
  typename S::Float sum[kRows][kPages][kVectors];
  for (auto& row : sum) {
    for (auto& page : row) {
      for (auto& each : page) each = S::zero();
    }
  }
  for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
    // Few rows: a pair of query values stays in registers. Many: a pair of key vectors does.
    if constexpr (kRows <= 2) {
#pragma GCC unroll 4
      for (int page = 0; page < kPages; ++page) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          typename S::Float even, odd;
          Pages::template key_pair<S>(keys[page], pair, v * S::kWidth, even, odd);
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
        Pages::template key_pair<S>(keys[page], pair, v * S::kWidth, even[page][v], odd[page][v]);
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

// Turns the scores of one row into weights and moves its partial result to the new maximum. A row that sees
// nothing of the block gets zero weights and stays as it is.
template <typename S>
inline void weigh_block(const AttentionParams& params, const KeyRange& range, int64_t first_key,
                        int64_t padded, float* scores, float* partial) {
  using Float = typename S::Float;
  const int64_t from = range.first > first_key ? range.first - first_key : 0;
  const int64_t to = range.last - first_key < kBlockKeys ? range.last - first_key : kBlockKeys;
  if (from >= to) {
    for (int i = 0; i < kBlockKeys; i += S::kWidth) S::store(scores + i, S::zero());
    return;
  }
  if (params.soft_cap > 0) {
    const Float inverse = S::broadcast(1 / params.soft_cap);
    const Float cap = S::broadcast(params.soft_cap * kLog2E);
    for (int i = 0; i < kBlockKeys; i += S::kWidth) {
      S::store(scores + i, S::mul(cap, tanh<S>(S::mul(S::load(scores + i), inverse))));
    }
  }
  for (int64_t i = 0; i < from; ++i) scores[i] = kNoScore;
  for (int64_t i = to; i < kBlockKeys; ++i) scores[i] = kNoScore;
  Float most = S::load(scores);
  for (int i = S::kWidth; i < kBlockKeys; i += S::kWidth) most = S::max(most, S::load(scores + i));
  const float block_max = S::reduce_max(most);
  float& maximum = partial[padded];
  float& sum = partial[padded + 1];
  const float new_max = block_max > maximum ? block_max : maximum;
  float shrink[S::kWidth];
  S::store(shrink, exp2<S>(S::broadcast(maximum - new_max)));
  const Float top = S::broadcast(new_max);
  Float total = S::zero();
  for (int i = 0; i < kBlockKeys; i += S::kWidth) {
    const Float weight = exp2<S>(S::sub(S::load(scores + i), top));
    S::store(scores + i, weight);
    total = S::add(total, weight);
  }
  sum = sum * shrink[0] + S::reduce_add(total);
  maximum = new_max;
  const Float factor = S::broadcast(shrink[0]);
  for (int64_t i = 0; i < padded; i += S::kWidth) S::store(partial + i, S::mul(S::load(partial + i), factor));
}

// partial += weights * V for kVectors vectors of value dims: one chain per dim, keys ascending.
template <typename S, typename Pages, int kRows, int kVectors>
inline void add_values(const QueryTile& tile, const std::byte* const* values, int first_page, int last_page,
                       int64_t stride, int64_t dim, const float (*weights)[kBlockKeys]) {
  typename S::Float sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = S::load(tile.partial[r] + dim + v * S::kWidth);
  }
  for (int page = first_page; page < last_page; ++page) {
    for (int pair = 0; pair < kPageKeys / 2; ++pair) {
      const int key = page * kPageKeys + 2 * pair;
      if constexpr (kRows <= 2) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          typename S::Float even, odd;
          Pages::template value_pair<S>(values[page], pair, stride, dim + v * S::kWidth, even, odd);
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
          Pages::template value_pair<S>(values[page], pair, stride, dim + v * S::kWidth, even[v], odd[v]);
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

// One block of 64 keys for one tile of rows.
template <typename S, typename Pages, int kRows>
void attend_block(const AttentionParams& params, const AttentionTask& task, const QueryTile& tile,
                  int64_t first_key) {
  KeyRange seen = tile.keys[0];
  for (int r = 1; r < kRows; ++r) {
    if (tile.keys[r].first < seen.first) seen.first = tile.keys[r].first;
    if (tile.keys[r].last > seen.last) seen.last = tile.keys[r].last;
  }
  const int64_t from = seen.first > first_key ? seen.first - first_key : 0;
  const int64_t to = seen.last - first_key < kBlockKeys ? seen.last - first_key : kBlockKeys;
  if (from >= to) return;
  const int first_page = static_cast<int>(from / kPageKeys);
  const int last_page = static_cast<int>((to + kPageKeys - 1) / kPageKeys);
  const std::byte* keys[kBlockPages];
  const std::byte* values[kBlockPages];
  for (int page = first_page; page < last_page; ++page) {
    const int64_t page_id = task.sequence.page_table[first_key / kPageKeys + page];
    keys[page] = params.kv.data + page_id * params.kv.page_stride + task.kv_head * params.kv.head_bytes();
    values[page] = keys[page] + params.kv.key_bytes();
    if constexpr (Pages::kIsLatent) {
      // To the first dim of the value: four bytes a dim, as two bf16 of a pair of tokens or as one float.
      values[page] += (params.kv.head_dim - params.kv.value_dim) * 4;
    }
  }
  alignas(64) float scores[kRows][kBlockKeys];
  // As many pages at once as give eight independent sums.
  constexpr int kVectors = kPageKeys / S::kWidth;
  constexpr int kPages = 8 / (kRows * kVectors) >= 4 ? 4 : 8 / (kRows * kVectors) >= 2 ? 2 : 1;
  int page = first_page;
  if constexpr (Pages::kIsLatent) {
    for (; page < last_page; ++page) {
      float(*to_scores)[kBlockKeys] = reinterpret_cast<float(*)[kBlockKeys]>(&scores[0][page * kPageKeys]);
      score_latent_page<S, Pages, kRows>(tile, keys[page], params.kv.head_dim, to_scores);
    }
  }
  for (; page + kPages <= last_page; page += kPages) {
    float(*to_scores)[kBlockKeys] = reinterpret_cast<float(*)[kBlockKeys]>(&scores[0][page * kPageKeys]);
    score_pages<S, Pages, kRows, kPages>(tile, keys + page, params.kv.head_dim, to_scores);
  }
  for (; page < last_page; ++page) {
    float(*to_scores)[kBlockKeys] = reinterpret_cast<float(*)[kBlockKeys]>(&scores[0][page * kPageKeys]);
    score_pages<S, Pages, kRows, 1>(tile, keys + page, params.kv.head_dim, to_scores);
  }
  const int64_t padded = params.kv.padded_value_dim();
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < first_page * kPageKeys; ++i) scores[r][i] = 0;
    for (int i = last_page * kPageKeys; i < kBlockKeys; ++i) scores[r][i] = 0;
    weigh_block<S>(params, tile.keys[r], first_key, padded, scores[r], tile.partial[r]);
  }
  // Eight independent sums hide the latency of a multiply-add; four zmm are 64 dims, a common head size.
  constexpr int kDimVectors = kRows >= 3 ? 2 : kRows == 2 || S::kWidth == 16 ? 4 : 8;
  const int64_t stride = params.kv.stored_dims();
  int64_t dim = 0;
  for (; dim + kDimVectors * S::kWidth <= padded; dim += kDimVectors * S::kWidth) {
    add_values<S, Pages, kRows, kDimVectors>(tile, values, first_page, last_page, stride, dim, scores);
  }
  for (; dim < padded; dim += S::kWidth) {
    add_values<S, Pages, kRows, 1>(tile, values, first_page, last_page, stride, dim, scores);
  }
}

inline void clear_partial(float* partial, int64_t padded) {
  for (int64_t i = 0; i < padded; ++i) partial[i] = 0;
  partial[padded] = kNoScore;
  partial[padded + 1] = 0;
}

// into = into + from, both with their maxima. A split that a row saw nothing of changes nothing.
template <typename S>
inline void merge_partial(const float* from, int64_t padded, float* into) {
  if (from[padded] == kNoScore) return;
  const float new_max = from[padded] > into[padded] ? from[padded] : into[padded];
  float shrink[S::kWidth] = {into[padded] - new_max, from[padded] - new_max};
  S::store(shrink, exp2<S>(S::load(shrink)));
  const typename S::Float into_factor = S::broadcast(shrink[0]);
  const typename S::Float from_factor = S::broadcast(shrink[1]);
  for (int64_t i = 0; i < padded; i += S::kWidth) {
    S::store(into + i, S::fma(S::load(from + i), from_factor, S::mul(S::load(into + i), into_factor)));
  }
  into[padded] = new_max;
  into[padded + 1] = into[padded + 1] * shrink[0] + from[padded + 1] * shrink[1];
}

// Tile number `index` of the task's query rows.
inline QueryTile query_tile(const AttentionParams& params, const AttentionTask& task, int64_t first,
                            int num_rows, int64_t partial_offset) {
  const int64_t heads_per_kv = params.num_q_heads / params.kv.num_kv_heads;
  QueryTile tile;
  tile.num_rows = num_rows;
  for (int r = 0; r < num_rows; ++r) {
    const int64_t token = task.first_token + (first + r) / heads_per_kv;
    const int64_t head = task.kv_head * heads_per_kv + (first + r) % heads_per_kv;
    tile.q[r] =
        params.q.data + (task.sequence.first_row + token) * params.q.row_stride + head * params.kv.head_dim;
    tile.keys[r] = visible_keys(params, task.sequence, token);
    tile.partial[r] = task.partials + (first + r) * task.row_stride + partial_offset;
  }
  return tile;
}

template <typename S, typename Pages>
void attend_tile(const AttentionParams& params, const AttentionTask& task, const QueryTile& tile,
                 int64_t first_key) {
  switch (tile.num_rows) {
    case 1:
      return attend_block<S, Pages, 1>(params, task, tile, first_key);
    case 2:
      return attend_block<S, Pages, 2>(params, task, tile, first_key);
    case 3:
      return attend_block<S, Pages, 3>(params, task, tile, first_key);
    default:
      return attend_block<S, Pages, 4>(params, task, tile, first_key);
  }
}

// One split of all rows of the task into the partial at `partial_offset` of each row.
template <typename S, typename Pages>
void attend_split(const AttentionParams& params, const AttentionTask& task, int64_t split,
                  int64_t partial_offset) {
  const int64_t num_rows = task.num_tokens * (params.num_q_heads / params.kv.num_kv_heads);
  const int64_t padded = params.kv.padded_value_dim();
  const int64_t end = task.sequence.start + task.sequence.count;
  const int64_t last_key = (split + 1) * kSplitKeys < end ? (split + 1) * kSplitKeys : end;
  for (int64_t row = 0; row < num_rows; ++row) {
    clear_partial(task.partials + row * task.row_stride + partial_offset, padded);
  }
  for (int64_t key = split * kSplitKeys; key < last_key; key += kBlockKeys) {
    for (int64_t row = 0; row < num_rows; row += kMaxTileRows) {
      const int count = static_cast<int>(num_rows - row < kMaxTileRows ? num_rows - row : kMaxTileRows);
      attend_tile<S, Pages>(params, task, query_tile(params, task, row, count, partial_offset), key);
    }
  }
}

template <typename S, typename Pages>
void attend_pages(const AttentionParams& params, const AttentionTask& task) {
  if (task.split >= 0) return attend_split<S, Pages>(params, task, task.split, 0);
  // All splits: each into the second partial of a row, then merged into the first.
  const int64_t num_rows = task.num_tokens * (params.num_q_heads / params.kv.num_kv_heads);
  const int64_t padded = params.kv.padded_value_dim();
  const int64_t partial_floats = attention_partial_floats(params.kv.value_dim);
  for (int64_t row = 0; row < num_rows; ++row) clear_partial(task.partials + row * task.row_stride, padded);
  const KeyRange first = visible_keys(params, task.sequence, task.first_token);
  const KeyRange last = visible_keys(params, task.sequence, task.first_token + task.num_tokens - 1);
  for (int64_t split = first.first / kSplitKeys; split * kSplitKeys < last.last; ++split) {
    attend_split<S, Pages>(params, task, split, partial_floats);
    for (int64_t row = 0; row < num_rows; ++row) {
      float* merged = task.partials + row * task.row_stride;
      merge_partial<S>(merged + partial_floats, padded, merged);
    }
  }
}

template <typename S>
void attend(const AttentionParams& params, const AttentionTask& task) {
  const bool is_bf16 = params.kv.dtype == KvDtype::bf16;
  if (params.kv.is_latent) {
    return is_bf16 ? attend_pages<S, Latent<Bf16Pages>>(params, task)
                   : attend_pages<S, Latent<FloatPages>>(params, task);
  }
  return is_bf16 ? attend_pages<S, Bf16Pages>(params, task) : attend_pages<S, FloatPages>(params, task);
}

// Merges the partials of every head of one row and writes the row.
template <typename S>
void finish_attention(const AttentionParams& params, const AttentionPartials& partials, int64_t row) {
  const int64_t padded = params.kv.padded_value_dim();
  const int64_t value_dim = params.kv.value_dim;
  const int64_t partial_floats = attention_partial_floats(value_dim);
  const int64_t heads_per_kv = params.num_q_heads / params.kv.num_kv_heads;
  alignas(64) float merged[kMaxValueDim + 16];
  alignas(64) float block[kBlockCols];  // output columns not yet written
  int64_t col = 0;
  for (int64_t head = 0; head < params.num_q_heads; ++head) {
    const float* partial = partials.first + head / heads_per_kv * partials.kv_head_stride +
                           head % heads_per_kv * partials.head_stride;
    clear_partial(merged, padded);
    for (int64_t i = 0; i < partials.num_partials; ++i) {
      merge_partial<S>(partial + i * partial_floats, padded, merged);
    }
    const typename S::Float inverse = S::broadcast(1 / merged[padded + 1]);
    for (int64_t i = 0; i < padded; i += S::kWidth)
      S::store(merged + i, S::mul(S::load(merged + i), inverse));
    for (int64_t i = 0; i < value_dim; ++i, ++col) {
      block[col % kBlockCols] = merged[i];
      if (col % kBlockCols == kBlockCols - 1) {
        store_block<S>(block, params.out, params.quantized, row, col - (kBlockCols - 1), kBlockCols);
      }
    }
  }
  const int rest = static_cast<int>(col % kBlockCols);
  if (rest > 0) store_block<S>(block, params.out, params.quantized, row, col - rest, rest);
}

}  // namespace
}  // namespace autoglm::cpu
