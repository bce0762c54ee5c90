// What the attention kernels share: 16 query rows against blocks of 64 keys in shared memory. Each number of
// a row is computed by the same operations in the same order in every kernel.
//
// A thread holds rows lane / 4 and lane / 4 + 8 of a tile ("halves" 0 and 1) in the layout of an m16n8k16's
// sum. Powers of two: the queries carry scale * log2(e), or scale alone with a soft cap.
// Source: FlashAttention-2 (arXiv 2307.08691), section 3, for the online softmax in registers.
#pragma once

#include "cuda/attention/attention_storage.h"
#include "cuda/attention/kv_elements.cuh"
#include "cuda/device/ptx.cuh"

namespace autoglm::cuda {

inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kMinusInfinity = -__builtin_huge_valf();
inline constexpr int kKeyTiles = kKeyBlock / 8;  // sums of 8 keys

// The two rows of a thread.
struct ThreadRows {
  int64_t head[2];   // row * num_q_heads + head, of q and out
  int first_key[2];  // visible are first_key <= key < end_key
  int end_key[2];    // 0 for a row beyond the tile
};

struct SoftmaxState {
  float largest[2] = {kMinusInfinity, kMinusInfinity};
  float sum[2] = {0, 0};
};

__device__ inline int lane_of_thread() { return thread_x() % kWarpSize; }
__device__ inline int warp_of_thread() { return thread_x() / kWarpSize; }
__device__ inline float larger(float a, float b) { return a > b ? a : b; }

// Row of q and out of the pair at `in_slice`, counted in heads.
__device__ inline int64_t head_of_pair(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                                       int in_slice) {
  const int group = args.num_q_heads / args.num_kv_heads;
  return (work.first_row + int64_t{in_slice / group}) * args.num_q_heads + int64_t{kv_head} * group +
         in_slice % group;
}

// `first_pair`: the first of the thread's 16 rows, counted in the block's pairs.
__device__ inline ThreadRows rows_of_thread(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                                            int first_pair) {
  const int group = args.num_q_heads / args.num_kv_heads;
  ThreadRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int in_block = first_pair + lane_of_thread() / 4 + 8 * half;
    const int in_slice = work.first_pair + in_block;
    const int position = work.start + in_slice / group;
    const bool is_valid = in_block < work.num_pairs;
    rows.head[half] = head_of_pair(args, work, kv_head, in_slice);
    rows.first_key[half] = args.sliding_window > 0 ? position - args.sliding_window + 1 : 0;
    rows.end_key[half] = !is_valid ? 0 : (args.is_causal ? position + 1 : work.seq_len);
  }
  return rows;
}

// The rows of a warp in registers, as first operands of products. A product's dims may come in any order that
// is the same for queries and keys: with codes of 8 bits a thread's four dims are neighbours, the even ones
// first, because that is how `widen` leaves the keys.
template <class Shape>
struct QueryRegisters {
  uint32_t words[Shape::kKeyDim / 16][4];

  __device__ void fill(const AttentionArgs& args, const ThreadRows& rows) {
#pragma unroll
    for (int i = 0; i < Shape::kKeyDim / 8; ++i) {
      const int depth = i / 2;
      const int half = i % 2;
      uint32_t(&out)[4] = words[depth];
      out[half] = out[half + 2] = 0;
      if (rows.end_key[half] == 0) continue;
      const Bf16* q = args.q + rows.head[half] * Shape::kKeyDim + depth * 16;
      const auto* in = reinterpret_cast<const uint32_t*>(q);
      if constexpr (Shape::kHasScales) {
        const uint32_t low = in[lane_of_thread() % 4 * 2];
        const uint32_t high = in[lane_of_thread() % 4 * 2 + 1];
        out[half] = (low & 0xffffu) | high << 16;
        out[half + 2] = low >> 16 | (high & 0xffff0000u);
      } else {
        out[half] = in[lane_of_thread() % 4];
        out[half + 2] = in[lane_of_thread() % 4 + 4];
      }
    }
  }

  __device__ void load(int depth, uint32_t (&out)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = words[depth][i];
  }
};

// Where the keys of one sequence and KV head are.
struct KvSource {
  const uint8_t* head;  // in page 0
  const int32_t* page_table;
  int64_t page_bytes;
  int seq_len;

  __device__ const uint8_t* token(int key, int64_t offset, int row_bytes, bool is_valid) const {
    const int64_t page = is_valid ? page_table[key / kPageTokens] : 0;
    return head + page * page_bytes + offset + key % kPageTokens * row_bytes;
  }
};

template <class Shape>
__device__ KvSource source_of(const AttentionArgs& args, const AttentionWork& work, int kv_head) {
  return {args.pages + kv_head * Shape::kHeadBytes, args.page_tables + work.page_table,
          args.num_kv_heads * Shape::kHeadBytes, work.seq_len};
}

// Begins to copy one K or V of keys first_key .. first_key + kNumKeys - 1; those beyond the sequence become
// zeros, so that whatever their slots hold meets no weight.
template <class Shape, int kNumKeys, int kThreads>
__device__ void copy_rows(const KvSource& source, int64_t offset, int first_key, uint8_t* target) {
  constexpr int kChunks = Shape::kRowBytes / kChunkBytes;
  constexpr int kTotal = kNumKeys * kChunks;
#pragma unroll 2
  for (int i = 0; i < (kTotal + kThreads - 1) / kThreads; ++i) {
    const int chunk = thread_x() + i * kThreads;
    if (kTotal % kThreads != 0 && chunk >= kTotal) break;
    const int key = first_key + chunk / kChunks;
    const bool is_valid = key < source.seq_len;
    copy_async(target + chunk * kChunkBytes,
               source.token(key, offset, Shape::kRowBytes, is_valid) + chunk % kChunks * kChunkBytes,
               is_valid);
  }
}

__device__ inline void copy_scales(const KvSource& source, int64_t offset, int first_key, uint8_t* target) {
  if (thread_x() >= kKeyBlock) return;
  const int key = first_key + thread_x();
  const bool is_valid = key < source.seq_len;
  copy_async_word(target + thread_x() * 4, source.token(key, offset, sizeof(float), is_valid), is_valid);
}

template <class Shape, int kThreads>
__device__ void copy_keys(const KvSource& source, int first_key, KvBlock<Shape>& block) {
  copy_rows<Shape, kKeyBlock, kThreads>(source, 0, first_key, block.keys());
  if constexpr (Shape::kHasScales) {
    copy_scales(source, Shape::kKeyScaleOffset, first_key, block.key_scales());
  }
}

template <class Shape, int kThreads>
__device__ void copy_values(const KvSource& source, int first_key, KvBlock<Shape>& block) {
  copy_rows<Shape, kKeyBlock, kThreads>(source, Shape::kValueOffset, first_key, block.values());
  if constexpr (Shape::kHasScales) {
    copy_scales(source, Shape::kValueScaleOffset, first_key, block.value_scales());
  }
}

// Row `row` of eight, of which the first is key `first_key`, a multiple of 8: the swizzle depends on `row`
// alone and the rest of the address mostly on constants.
template <int kRowBytes>
__device__ const uint8_t* matrix_row(const uint8_t* rows, int first_key, int row, int byte) {
  return rows + (first_key + row) * kRowBytes +
         swizzled_chunk(row, byte / kChunkBytes, kRowBytes / kChunkBytes) * kChunkBytes;
}

// Adds 16 dims (of bf16 keys) or 32 (of others, if there are so many) from `depth` on to the scores of two
// tiles of 8 keys.
template <class Shape, class Queries>
__device__ void multiply_depth(const Queries& queries, const uint8_t* keys, int first_key, int depth,
                               float (&first)[4], float (&second)[4]) {
  const int matrix = lane_of_thread() / 8;
  const int row = lane_of_thread() % 8;
  uint32_t words[4];
  uint32_t rows[4];
  if constexpr (Shape::kHasScales) {
    constexpr int kLast = Shape::kRowBytes - kChunkBytes;
    const int byte = (depth + matrix % 2) * kChunkBytes;
    load_matrices(words, matrix_row<Shape::kRowBytes>(keys, first_key + matrix / 2 * 8, row,
                                                      byte < kLast ? byte : kLast));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if ((depth + i) * 16 >= Shape::kKeyDim) break;
      queries.load(depth + i, rows);
      uint32_t pairs[2];
      widen<Shape::kType>(words[i], pairs);
      multiply_bf16(first, rows, pairs[0], pairs[1]);
      widen<Shape::kType>(words[i + 2], pairs);
      multiply_bf16(second, rows, pairs[0], pairs[1]);
    }
  } else {
    load_matrices(words, matrix_row<Shape::kRowBytes>(keys, first_key + matrix / 2 * 8, row,
                                                      depth * 32 + matrix % 2 * kChunkBytes));
    queries.load(depth, rows);
    multiply_bf16(first, rows, words[0], words[1]);
    multiply_bf16(second, rows, words[2], words[3]);
  }
}

// scores[i] = the rows times keys 8 (first_tile + i) .. of the block.
template <class Shape, int kTiles, class Queries>
__device__ void multiply_keys(const Queries& queries, KvBlock<Shape>& block, int first_tile,
                              float (&scores)[kTiles][4]) {
  constexpr int kStep = Shape::kHasScales ? 2 : 1;
#pragma unroll
  for (int tile = 0; tile < kTiles; tile += 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[tile][i] = scores[tile + 1][i] = 0;
#pragma unroll Shape::kUnrolledDepths
    for (int depth = 0; depth < Shape::kKeyDim / 16; depth += kStep) {
      multiply_depth<Shape>(queries, block.keys(), (first_tile + tile) * 8, depth, scores[tile],
                            scores[tile + 1]);
    }
  }
  if constexpr (Shape::kHasScales) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int key = (first_tile + tile) * 8 + lane_of_thread() % 4 * 2;
      const auto scales = *reinterpret_cast<const Couple*>(block.key_scales() + key * sizeof(float));
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[tile][i] *= i % 2 == 0 ? scales.low : scales.high;
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

}  // namespace autoglm::cuda
