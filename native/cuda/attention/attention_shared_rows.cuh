// Four warps that share 16 rows of queries: each scores 16 of a block's 64 keys, all of them take the softmax
// of all 64, and each multiplies a quarter of the value's strips. So each number has the chain that a warp
// with rows of its own gives it, for a quarter of the registers.
//
// Keys and values have one place each in shared memory. The next block's keys are copied while the values of
// this one are multiplied, and its values while the keys meet the queries. Latents are keys and values at
// once: their 16 tokens of a page are replaced as soon as they have been multiplied.
#pragma once

#include "cuda/attention/attention_values.cuh"

namespace autoglm::cuda {

__device__ inline int row_tile_of_warp() { return warp_of_thread() / kSharingWarps; }
// Which quarter of the keys and of the strips: strips quarter, quarter + 4, ...
__device__ inline int quarter_of_warp() { return warp_of_thread() % kSharingWarps; }
__device__ inline int first_tile_of_warp() { return quarter_of_warp() * (kKeyTiles / kSharingWarps); }

template <class Shape>
using SharedValues = Values<Shape::kStripsPerWarp>;

// The warps tell each other their scores: afterwards each thread has those of its rows for all 64 keys.
__device__ inline void share_scores(float (&mine)[2][4], Couple (&all)[16][kScoreCouples],
                                    float (&scores)[kKeyTiles][4]) {
  const int row = lane_of_thread() / 4;
  const int in_quad = lane_of_thread() % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    all[row + i % 2 * 8][(first_tile_of_warp() + i / 2) * 4 + in_quad] = {mine[i / 2][i % 2 * 2],
                                                                          mine[i / 2][i % 2 * 2 + 1]};
  }
  sync_threads();
#pragma unroll
  for (int i = 0; i < 2 * kKeyTiles; ++i) {
    const Couple couple = all[row + i % 2 * 8][i / 2 * 4 + in_quad];
    scores[i / 2][i % 2 * 2] = couple.low;
    scores[i / 2][i % 2 * 2 + 1] = couple.high;
  }
}

// Rows of a tile in shared memory as first operands: queries that would fill the registers.
template <class Shape>
struct QueryTile {
  const uint8_t* rows;

  __device__ void load(int depth, uint32_t (&out)[4]) const {
    const int matrix = lane_of_thread() / 8;
    load_matrices(out, matrix_row<Shape::kRowBytes>(rows, matrix % 2 * 8, lane_of_thread() % 8,
                                                    depth * 32 + matrix / 2 * kChunkBytes));
  }
};

// Begins to copy the queries of the block's pairs; rows beyond them become zeros.
template <class Shape, int kTiles>
__device__ void copy_queries(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                             LatentRowsStorage<Shape, kTiles>& storage) {
  constexpr int kChunks = Shape::kRowBytes / kChunkBytes;
  constexpr KvLayout kTile = Shape::kPage;
  for (int i = thread_x(); i < kTiles * 16 * kChunks; i += storage.kThreads) {
    const int pair = i / kChunks;
    const int dim = i % kChunks * (kChunkBytes / 2);
    const bool is_valid = pair < work.num_pairs;
    const int64_t head = head_of_pair(args, work, kv_head, work.first_pair + (is_valid ? pair : 0));
    copy_async(storage.queries[pair / 16] + kTile.offset_in_tile(pair % 16, dim),
               args.q + head * Shape::kKeyDim + dim, is_valid);
  }
}

template <class Shape, class Storage, class EndBlock>
__device__ void walk_pages(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                           const ThreadRows& rows, Storage& storage, SoftmaxState& state,
                           SharedValues<Shape>& values, EndBlock end_block) {
  const KvSource source = source_of<Shape>(args, work, kv_head);
  copy_keys<Shape, Storage::kThreads>(source, work.first_key, storage.block);
  commit_copies();
  copy_values<Shape, Storage::kThreads>(source, work.first_key, storage.block);
  commit_copies();
  QueryRegisters<Shape> queries;
  queries.fill(args, rows);
  for (int first_key = work.first_key; first_key < work.end_key; first_key += kKeyBlock) {
    const int next_key = first_key + kKeyBlock;
    wait_for_copies<1>();  // the keys have come
    sync_threads();
    float mine[2][4];
    multiply_keys<Shape>(queries, storage.block, first_tile_of_warp(), mine);
    float scores[kKeyTiles][4];
    share_scores(mine, storage.scores[row_tile_of_warp()], scores);
    if (next_key < work.end_key) copy_keys<Shape, Storage::kThreads>(source, next_key, storage.block);
    commit_copies();
    float shrink[2];
    update_softmax(args, rows, first_key, scores, state, shrink);
    values.shrink(shrink);
    wait_for_copies<1>();  // the values have come
    sync_threads();
    scale_weights<Shape>(storage.block, scores);
    multiply_block_values<Shape, kSharingWarps>(scores, storage.block, quarter_of_warp(), values);
    sync_threads();
    if (next_key < work.end_key) copy_values<Shape, Storage::kThreads>(source, next_key, storage.block);
    commit_copies();
    end_block(first_key);
  }
}

template <class Shape, class Storage, class EndBlock>
__device__ void walk_latents(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                             const ThreadRows& rows, Storage& storage, SoftmaxState& state,
                             SharedValues<Shape>& values, EndBlock end_block) {
  const KvSource source = source_of<Shape>(args, work, kv_head);
  copy_queries(args, work, kv_head, storage);
  copy_keys<Shape, Storage::kThreads>(source, work.first_key, storage.block);
  commit_copies();
  const QueryTile<Shape> queries{storage.queries[row_tile_of_warp()]};
  for (int first_key = work.first_key; first_key < work.end_key; first_key += kKeyBlock) {
    wait_for_copies<0>();
    sync_threads();
    float mine[2][4];
    multiply_keys<Shape>(queries, storage.block, first_tile_of_warp(), mine);
    float scores[kKeyTiles][4];
    share_scores(mine, storage.scores[row_tile_of_warp()], scores);
    float shrink[2];
    update_softmax(args, rows, first_key, scores, state, shrink);
    values.shrink(shrink);
#pragma unroll
    for (int page = 0; page < kKeyBlock / kPageTokens; ++page) {
      const int next_key = first_key + kKeyBlock + page * kPageTokens;
      multiply_values<Shape, kSharingWarps>(scores, storage.block.values(), page, quarter_of_warp(), values);
      sync_threads();
      if (next_key < work.end_key) {
        copy_rows<Shape, kPageTokens, Storage::kThreads>(
            source, 0, next_key, storage.block.keys() + page * kPageTokens * Shape::kRowBytes);
      }
      commit_copies();
    }
    end_block(first_key);
  }
}

// Takes the rows through keys first_key .. end_key - 1 of the work; `end_block` is called after each block.
template <class Shape, class Storage, class EndBlock>
__device__ void walk_keys(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                          const ThreadRows& rows, Storage& storage, SoftmaxState& state,
                          SharedValues<Shape>& values, EndBlock end_block) {
  if constexpr (Shape::kIsLatent) {
    walk_latents<Shape>(args, work, kv_head, rows, storage, state, values, end_block);
  } else {
    walk_pages<Shape>(args, work, kv_head, rows, storage, state, values, end_block);
  }
}

}  // namespace autoglm::cuda
