// Attention of some query rows of one KV head over the pages of one sequence, and the merge of its splits.
// Contract: AttentionParams in base/op_params.h; tasks: AttentionTask in cpu/kernel_table.h.
//
// A query row is one (token, query head) pair; all query heads of a KV head share each load of K and V.
// Softmax runs in powers of two, with a running maximum per block of 64 keys. Blocks and splits lie at
// absolute positions and a row skips what it cannot see, so its bits depend on nothing but its own sequence.
// Source: the running softmax of Milakov and Gimelshein 2018; splits as in Flash-Decoding (Dao et al. 2023).
#pragma once

#include <algorithm>

#include "cpu/attention_float_pages.h"
#include "cpu/attention_int8_pages.h"
#include "cpu/attention_tile.h"
#include "cpu/quantize_kernel.h"
#include "cpu/vector_math.h"

namespace autoglm::cpu {
namespace {

// Keys [from, to) of a block.
struct BlockRange {
  int from;
  int to;
  bool is_empty() const { return from >= to; }
};

inline BlockRange within_block(const KeyRange& range, int64_t first_key) {
  const int64_t to = range.last - first_key;
  return {
      range.first > first_key ? static_cast<int>(std::min<int64_t>(range.first - first_key, kBlockKeys)) : 0,
      to < kBlockKeys ? static_cast<int>(to) : kBlockKeys};
}

// Masks and caps the scores of one row and returns their maximum.
template <typename S>
inline float mask_scores(const AttentionParams& params, const BlockRange& range, float* scores) {
  using Float = typename S::Float;
  if (params.soft_cap > 0) {
    const Float inverse = S::broadcast(1 / params.soft_cap);
    const Float cap = S::broadcast(params.soft_cap * kLog2E);
    for (int i = 0; i < kBlockKeys; i += S::kWidth) {
      S::store(scores + i, S::mul(cap, tanh<S>(S::mul(S::load(scores + i), inverse))));
    }
  }
  for (int i = 0; i < range.from; ++i) scores[i] = kNoScore;
  for (int i = range.to; i < kBlockKeys; ++i) scores[i] = kNoScore;
  Float most = S::load(scores);
#pragma GCC unroll 8
  for (int i = S::kWidth; i < kBlockKeys; i += S::kWidth) most = S::max(most, S::load(scores + i));
  return S::reduce_max(most);
}

// Turns the scores of a tile into weights and moves the maximum and sum of each row on. factors[r] is what
// the values of row r shrink by. A row that sees nothing of the block gets zero weights and stays as it is.
template <typename S, int kRows>
inline void weigh_block(const AttentionParams& params, const QueryTile& tile, int64_t first_key,
                        float (*scores)[kBlockKeys], float* factors) {
  using Float = typename S::Float;
  const int64_t padded = params.kv.padded_value_dim();
  bool is_seen[kRows];
  for (int r = 0; r < kRows; ++r) {
    const BlockRange range = within_block(tile.keys[r], first_key);
    is_seen[r] = !range.is_empty();
    float& maximum = tile.partial[r][padded];
    factors[r] = 0;
    if (!is_seen[r]) continue;
    const float block_max = mask_scores<S>(params, range, scores[r]);
    const float new_max = block_max > maximum ? block_max : maximum;
    factors[r] = maximum - new_max;
    maximum = new_max;
  }
  for (int r = 0; r < kRows; r += S::kWidth) S::store(factors + r, exp2_of_negative<S>(S::load(factors + r)));
  for (int r = 0; r < kRows; ++r) {
    if (!is_seen[r]) {
      for (int i = 0; i < kBlockKeys; i += S::kWidth) S::store(scores[r] + i, S::zero());
      continue;
    }
    const Float top = S::broadcast(tile.partial[r][padded]);
    Float total = S::zero();
#pragma GCC unroll 2
    for (int i = 0; i < kBlockKeys; i += S::kWidth) {
      const Float weight = exp2_of_negative<S>(S::sub(S::load(scores[r] + i), top));
      S::store(scores[r] + i, weight);
      total = S::add(total, weight);
    }
    float& sum = tile.partial[r][padded + 1];
    sum = sum * factors[r] + S::reduce_add(total);
  }
}

template <typename Pages>
inline BlockPages find_pages(const KvPages& kv, const AttentionTask& task, int64_t first_key,
                             const BlockRange& range) {
  BlockPages block;
  block.first_page = range.from / kPageKeys;
  block.last_page = (range.to + kPageKeys - 1) / kPageKeys;
  int64_t values_offset = kv.key_bytes();
  // To the first dim of the value: four bytes a dim, as two bf16 of a pair of tokens or as one float.
  if constexpr (Pages::kIsLatent) values_offset += (kv.head_dim - kv.value_dim) * 4;
  const int32_t* page_table = task.sequence.page_table + first_key / kPageKeys;
  const int64_t num_pages = (task.sequence.start + task.sequence.count + kPageKeys - 1) / kPageKeys;
  const int64_t num_left = num_pages - first_key / kPageKeys;
  for (int page = block.first_page; page < block.last_page; ++page) {
    const int next = page + kBlockPages < num_left ? page + kBlockPages : page;
    block.keys[page] = kv.keys(page_table[page], task.kv_head);
    block.next_keys[page] = kv.keys(page_table[next], task.kv_head);
    block.values[page] = block.keys[page] + values_offset;
    block.next_values[page] = block.next_keys[page] + values_offset;
  }
  return block;
}

// One block of 64 keys for one tile of rows.
template <typename S, typename Pages, int kRows>
void attend_block(const AttentionParams& params, const AttentionTask& task, const QueryTile& tile,
                  int64_t first_key) {
  const KvPages& kv = params.kv;
  KeyRange seen = tile.keys[0];
  for (int r = 1; r < kRows; ++r) {
    if (tile.keys[r].first < seen.first) seen.first = tile.keys[r].first;
    if (tile.keys[r].last > seen.last) seen.last = tile.keys[r].last;
  }
  const BlockRange range = within_block(seen, first_key);
  if (range.is_empty()) return;
  const BlockPages block = find_pages<Pages>(kv, task, first_key, range);
  alignas(64) float scores[kRows][kBlockKeys];
  Pages::template score<S, kRows>(tile, kv, block, scores);
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < block.first_page * kPageKeys; ++i) scores[r][i] = 0;
    for (int i = block.last_page * kPageKeys; i < kBlockKeys; ++i) scores[r][i] = 0;
  }
  alignas(64) float factors[kMaxTileRows + 16];
  weigh_block<S, kRows>(params, tile, first_key, scores, factors);
  Pages::template add<S, kRows>(tile, kv, block, scores, factors);
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

// Walks through the query rows of a task, (token, head) pairs.
class QueryRows {
 public:
  QueryRows(const AttentionParams& params, const AttentionTask& task, int64_t partial_offset)
      : params_(params),
        task_(task),
        heads_per_kv_(params.num_q_heads / params.kv.num_kv_heads),
        partial_(task.partials + partial_offset) {
    begin_token();
  }

  QueryTile next(int num_rows) {
    QueryTile tile;
    tile.num_rows = num_rows;
    for (int r = 0; r < num_rows; ++r) {
      tile.q[r] = q_;
      tile.keys[r] = keys_;
      tile.partial[r] = partial_;
      partial_ += task_.row_stride;
      q_ += params_.kv.head_dim;
      if (++head_ < heads_per_kv_) continue;
      head_ = 0;
      ++token_;
      begin_token();
    }
    return tile;
  }

 private:
  void begin_token() {
    const int64_t token = task_.first_token + token_;
    q_ = params_.q.data + (task_.sequence.first_row + token) * params_.q.row_stride +
         task_.kv_head * heads_per_kv_ * params_.kv.head_dim;
    keys_ = visible_keys(params_, task_.sequence, token);
  }

  const AttentionParams& params_;
  const AttentionTask& task_;
  int64_t heads_per_kv_;
  int64_t head_ = 0;
  int64_t token_ = 0;
  const float* q_;
  KeyRange keys_;
  float* partial_;
};

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
    QueryRows rows(params, task, partial_offset);
    for (int64_t row = 0; row < num_rows; row += kMaxTileRows) {
      const int count = static_cast<int>(num_rows - row < kMaxTileRows ? num_rows - row : kMaxTileRows);
      attend_tile<S, Pages>(params, task, rows.next(count), key);
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
  switch (params.kv.dtype) {
    case KvDtype::bf16:
      return params.kv.is_latent ? attend_pages<S, LatentPages<Bf16Reader>>(params, task)
                                 : attend_pages<S, FloatPages<Bf16Reader>>(params, task);
    case KvDtype::f32:
      return params.kv.is_latent ? attend_pages<S, LatentPages<FloatReader>>(params, task)
                                 : attend_pages<S, FloatPages<FloatReader>>(params, task);
    case KvDtype::int8:
      return attend_pages<S, Int8Pages>(params, task);
    case KvDtype::fp8:
      return;  // refused by ops/check.h
  }
}

// One head's output: its partials, merged and divided by their sums.
template <typename S>
inline void finish_head(const float* partial, int64_t num_partials, int64_t partial_floats, int64_t padded,
                        float* out) {
  alignas(64) float merged[kMaxValueDim + 16];
  if (num_partials > 1) {
    clear_partial(merged, padded);
    for (int64_t i = 0; i < num_partials; ++i) merge_partial<S>(partial + i * partial_floats, padded, merged);
    partial = merged;
  }
  const typename S::Float inverse = S::broadcast(1 / partial[padded + 1]);
  for (int64_t i = 0; i < padded; i += S::kWidth) S::store(out + i, S::mul(S::load(partial + i), inverse));
}

// Merges the partials of every head of one row and writes the row. Heads need not end where blocks do.
template <typename S>
void finish_attention(const AttentionParams& params, const AttentionPartials& partials, int64_t row) {
  const int64_t padded = params.kv.padded_value_dim();
  const int64_t value_dim = params.kv.value_dim;
  const int64_t partial_floats = attention_partial_floats(value_dim);
  const int64_t heads_per_kv = params.num_q_heads / params.kv.num_kv_heads;
  alignas(64) float waiting[kBlockCols + kMaxValueDim + 16];  // output columns not yet written
  int64_t num_waiting = 0;
  int64_t col = 0;
  for (int64_t head = 0; head < params.num_q_heads; ++head) {
    const float* partial = partials.first + head / heads_per_kv * partials.kv_head_stride +
                           head % heads_per_kv * partials.head_stride;
    finish_head<S>(partial, partials.num_partials, partial_floats, padded, waiting + num_waiting);
    num_waiting += value_dim;
    int64_t first = 0;
    for (; num_waiting - first >= kBlockCols; first += kBlockCols, col += kBlockCols)
      store_block<S>(waiting + first, params.out, params.quantized, row, col, kBlockCols);
    num_waiting -= first;
    if (num_waiting > 0) __builtin_memmove(waiting, waiting + first, num_waiting * sizeof(float));
  }
  if (num_waiting > 0)
    store_block<S>(waiting, params.out, params.quantized, row, col, static_cast<int>(num_waiting));
}

}  // namespace
}  // namespace autoglm::cpu
