// What the attention kernels share: 16 query rows of one warp against blocks of 64 keys in shared memory.
// Each number of a row is computed by the same operations in the same order in every kernel.
//
// A thread holds rows lane / 4 and lane / 4 + 8 of its warp's tile ("halves" 0 and 1) in the layout of an
// m16n8k16's sum. Powers of two: the queries carry scale * log2(e), or scale alone with a soft cap.
// Source: FlashAttention-2 (arXiv 2307.08691), section 3, for the online softmax in registers.
#pragma once

#include "cuda/attention/attention_storage.h"
#include "cuda/device/ptx.cuh"

namespace autoglm::cuda {

inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kMinusInfinity = -__builtin_huge_valf();
inline constexpr int kKeyTiles = kKeyBlock / 8;  // sums of 8 keys

// The two rows of a thread.
struct ThreadRows {
  int64_t offset[2];  // of the row's head in q and out, in elements
  int first_key[2];   // visible are first_key <= key < end_key
  int end_key[2];     // 0 for a row beyond the tile
};

struct SoftmaxState {
  float largest[2] = {kMinusInfinity, kMinusInfinity};
  float sum[2] = {0, 0};
};

template <int kHeadDim>
struct Queries {
  uint32_t words[kHeadDim / 16][4];
};

__device__ inline int lane_of_thread() { return thread_x() % kWarpSize; }
__device__ inline int warp_of_thread() { return thread_x() / kWarpSize; }
__device__ inline float larger(float a, float b) { return a > b ? a : b; }

// `first_pair`: the warp's first pair, counted in the tile.
__device__ inline ThreadRows rows_of_thread(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                                            int first_pair) {
  const int group = args.num_q_heads / args.num_kv_heads;
  ThreadRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int in_tile = first_pair + lane_of_thread() / 4 + 8 * half;
    const int pair = work.first_pair + in_tile;
    const int token = pair / group;
    const int64_t head = int64_t{kv_head} * group + pair % group;
    const int position = work.start + token;
    const bool is_valid = in_tile < work.num_pairs;
    rows.offset[half] = ((work.first_row + int64_t{token}) * args.num_q_heads + head) * args.head_dim;
    rows.first_key[half] = args.sliding_window > 0 ? position - args.sliding_window + 1 : 0;
    rows.end_key[half] = !is_valid ? 0 : (args.is_causal ? position + 1 : work.seq_len);
  }
  return rows;
}

template <int kHeadDim>
__device__ void load_queries(const AttentionArgs& args, const ThreadRows& rows, Queries<kHeadDim>& queries) {
#pragma unroll
  for (int depth = 0; depth < kHeadDim / 16; ++depth) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const int half = word % 2;
      const int dim = depth * 16 + word / 2 * 8 + lane_of_thread() % 4 * 2;
      queries.words[depth][word] =
          rows.end_key[half] == 0 ? 0 : *reinterpret_cast<const uint32_t*>(args.q + rows.offset[half] + dim);
    }
  }
}

// Begins to copy keys first_key .. first_key + 63; those beyond the sequence become zeros, so that whatever
// their slots hold meets no weight.
template <int kHeadDim>
__device__ void load_keys(const AttentionArgs& args, const AttentionWork& work, int kv_head, int first_key,
                          KvStage<kHeadDim>& stage) {
  constexpr int kChunks = kHeadDim / kChunkElements;
#pragma unroll 2
  for (int i = 0; i < kKeyBlock * kChunks / kAttentionThreads; ++i) {
    const int chunk = thread_x() + i * kAttentionThreads;
    const int key = first_key + chunk / kChunks;
    const bool is_valid = key < work.seq_len;
    const int64_t page = is_valid ? args.page_tables[work.page_table + key / kPageTokens] : 0;
    const Bf16* keys = args.pages + key_tile_offset(page, kv_head, args.num_kv_heads, kHeadDim) +
                       key % kPageTokens * kHeadDim + chunk % kChunks * kChunkElements;
    copy_async(stage.keys + chunk * kChunkElements, keys, is_valid);
    copy_async(stage.values + chunk * kChunkElements, keys + tile_elements(kHeadDim), is_valid);
  }
  commit_copies();
}

// Row `row` of an 8 x 8 matrix whose first key and dim are given: both are multiples of 8, so that the
// swizzle depends on the row alone and the rest of the address on constants.
template <int kHeadDim>
__device__ const Bf16* matrix_row(const Bf16 (&block)[kKeyBlock * kHeadDim], int first_key, int row,
                                  int first_dim) {
  constexpr int kChunks = kHeadDim / kChunkElements;
  return block + (first_key + row) * kHeadDim +
         swizzled_chunk(row, first_dim / kChunkElements, kChunks) * kChunkElements;
}

// scores[i] = the rows times keys 8 (first_tile + i) .. of the block.
template <int kHeadDim, int kTiles>
__device__ void multiply_keys(const Queries<kHeadDim>& queries, const KvStage<kHeadDim>& stage,
                              int first_tile, float (&scores)[kTiles][4]) {
  const int matrix = lane_of_thread() / 8;
  const int row = lane_of_thread() % 8;
#pragma unroll
  for (int tile = 0; tile < kTiles; tile += 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[tile][i] = scores[tile + 1][i] = 0;
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      uint32_t words[4];
      load_matrices(words, matrix_row<kHeadDim>(stage.keys, (first_tile + tile + matrix / 2) * 8, row,
                                                depth * 16 + matrix % 2 * 8));
      multiply_bf16(scores[tile], queries.words[depth], words[0], words[1]);
      multiply_bf16(scores[tile + 1], queries.words[depth], words[2], words[3]);
    }
  }
}

// tanh through one power of two, exact to a few units of 1e-7.
__device__ inline float capped(float score, float cap) {
  const float power = exp2_approx(2 * kLog2E / cap * score);
  return cap * kLog2E * (1.0f - 2.0f / (power + 1.0f));
}

// Caps and masks the scores, and turns them into weights relative to the largest of all blocks so far.
// `shrink` is what earlier weights and values are to be multiplied by.
__device__ inline void update_softmax(const AttentionArgs& args, const ThreadRows& rows, int first_key,
                                      float (&scores)[kKeyTiles][4], SoftmaxState& state,
                                      float (&shrink)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = state.largest[half];
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      float& score = scores[i / 2][2 * half + i % 2];
      const int key = first_key + i / 2 * 8 + lane_of_thread() % 4 * 2 + i % 2;
      if (args.soft_cap > 0) score = capped(score, args.soft_cap);
      if (key < rows.first_key[half] || key >= rows.end_key[half]) score = kMinusInfinity;
      largest = larger(largest, score);
    }
    largest = larger(largest, shuffle_xor(largest, 1));
    largest = larger(largest, shuffle_xor(largest, 2));
    // A row that has seen nothing yet keeps -infinity, and a row that sees nothing here keeps everything.
    shrink[half] = state.largest[half] == largest ? 1.0f : exp2_approx(state.largest[half] - largest);
    const float subtracted = largest == kMinusInfinity ? 0.0f : largest;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      float& score = scores[i / 2][2 * half + i % 2];
      score = exp2_approx(score - subtracted);
      sum += score;
    }
    state.largest[half] = largest;
    state.sum[half] = multiply_add(state.sum[half], shrink[half], sum);
  }
}

// values[2 i], values[2 i + 1] = shrunk values + weights times dims 16 j .. 16 j + 15 of the block's values,
// j = first_dims + i.
template <int kHeadDim, int kPairs>
__device__ void multiply_values(const float (&weights)[kKeyTiles][4], const float (&shrink)[2],
                                const KvStage<kHeadDim>& stage, int first_dims,
                                float (&values)[kPairs][2][4]) {
  const int matrix = lane_of_thread() / 8;
  const int row = lane_of_thread() % 8;
#pragma unroll
  for (int i = 0; i < 8 * kPairs; ++i) values[i / 8][i / 4 % 2][i % 4] *= shrink[i % 4 / 2];
#pragma unroll
  for (int depth = 0; depth < kKeyBlock / 16; ++depth) {
    const uint32_t rows[4] = {pack_bf16(weights[2 * depth][0], weights[2 * depth][1]),
                              pack_bf16(weights[2 * depth][2], weights[2 * depth][3]),
                              pack_bf16(weights[2 * depth + 1][0], weights[2 * depth + 1][1]),
                              pack_bf16(weights[2 * depth + 1][2], weights[2 * depth + 1][3])};
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      uint32_t words[4];
      load_matrices_transposed(words, matrix_row<kHeadDim>(stage.values, depth * 16 + matrix % 2 * 8, row,
                                                           (first_dims + i) * 16 + matrix / 2 * 8));
      multiply_bf16(values[i][0], rows, words[0], words[1]);
      multiply_bf16(values[i][1], rows, words[2], words[3]);
    }
  }
}

// A row's sum over its four threads.
__device__ inline void finish_sums(SoftmaxState& state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    state.sum[half] += shuffle_xor(state.sum[half], 1);
    state.sum[half] += shuffle_xor(state.sum[half], 2);
  }
}

// How two partial results of a row become one: value = value * before + next_value * next.
struct MergeFactors {
  float before;
  float next;
};

// Takes the next split into (largest, sum) of those before it. Merging one split into nothing changes no bit.
__device__ inline MergeFactors merge_split(float next_largest, float next_sum, float& largest, float& sum) {
  const float both = larger(largest, next_largest);
  const MergeFactors factors{largest == both ? 1.0f : exp2_approx(largest - both),
                             next_largest == both ? 1.0f : exp2_approx(next_largest - both)};
  sum = multiply_add(next_sum, factors.next, sum * factors.before);
  largest = both;
  return factors;
}

__device__ inline float merged_value(float value, float next_value, const MergeFactors& factors) {
  return multiply_add(next_value, factors.next, value * factors.before);
}

__device__ inline void store_pair(Bf16* out, float low, float high, float sum) {
  const float factor = 1.0f / sum;
  *reinterpret_cast<uint32_t*>(out) = pack_bf16(low * factor, high * factor);
}

}  // namespace autoglm::cuda
