// attention prefill: softmax(q k^T) v for many queries; one block walks all keys of its (token, head) pairs.
// Shapes and formulas: AttentionArgs, AttentionParams in base/op_params.h. Layout: page_layout.h.
// Needs:    heads of head_dims.def.
// Rounding: as the decode kernel, bit for bit.
// Cost:     compute bound, 2 * (head_dim + value_dim) flops per query, head and visible key.
// Twin:     cpu/attention_kernel.h.
//
// Heads of at most 128 dims: four warps with 16 rows each. Longer ones: two tiles of 16 rows, each shared by
// four warps. Latents: one such tile, because the queries lie in shared memory, too.
#pragma once

#include "cuda/attention/attention_shared_rows.cuh"

namespace autoglm::cuda {

__device__ inline bool ends_split(const AttentionWork& work, int first_key) {
  const int next_key = first_key + kKeyBlock;
  return next_key % kSplitKeys == 0 || next_key >= work.end_key;
}

// Takes the split that ends here into those before it, and begins the next one with nothing.
template <class Shape, int kThreads>
__device__ void merge_into(float (&merged)[Shape::kValueDim / 2][kThreads], bool is_first,
                           SoftmaxState& total, SoftmaxState& state, Values<Shape::kStrips>& values) {
  MergeFactors factors[2];
  merge_states(state, total, factors);
#pragma unroll
  for (int i = 0; i < Shape::kValueDim / 2; ++i) {
    float& kept = merged[i][thread_x()];
    float& value = values.sums[i / 8][i / 4 % 2][i % 4];
    kept = merged_value(is_first ? 0.0f : kept, value, factors[i % 4 / 2]);
    value = 0;
  }
}

// Each warp has rows of its own.
template <class Shape>
__device__ void attend_own_rows(const AttentionArgs& args, const AttentionWork& work) {
  using Storage = typename StorageOf<Shape>::Prefill;
  auto& storage = shared_storage<Storage>();
  const KvSource source = source_of<Shape>(args, work, block_y());
  copy_keys<Shape, Storage::kThreads>(source, work.first_key, storage.block);
  commit_copies();
  copy_values<Shape, Storage::kThreads>(source, work.first_key, storage.block);
  commit_copies();
  const ThreadRows rows = rows_of_thread(args, work, block_y(), warp_of_thread() * 16);
  QueryRegisters<Shape> queries;
  queries.fill(args, rows);
  SoftmaxState state;
  SoftmaxState total;
  Values<Shape::kStrips> values;
  for (int first_key = work.first_key; first_key < work.end_key; first_key += kKeyBlock) {
    const int next_key = first_key + kKeyBlock;
    wait_for_copies<1>();  // the keys have come
    sync_threads();
    float scores[kKeyTiles][4];
    multiply_keys<Shape>(queries, storage.block, 0, scores);
    sync_threads();
    if (next_key < work.end_key) copy_keys<Shape, Storage::kThreads>(source, next_key, storage.block);
    commit_copies();
    float shrink[2];
    update_softmax(args, rows, first_key, scores, state, shrink);
    values.shrink(shrink);
    wait_for_copies<1>();  // the values have come
    sync_threads();
    scale_weights<Shape>(storage.block, scores);
    multiply_block_values<Shape, 1>(scores, storage.block, 0, values);
    sync_threads();
    if (next_key < work.end_key) copy_values<Shape, Storage::kThreads>(source, next_key, storage.block);
    commit_copies();
    if (ends_split(work, first_key)) {
      const bool is_first = first_key - work.first_key < kSplitKeys;
      merge_into<Shape>(storage.merged, is_first, total, state, values);
    }
  }
#pragma unroll
  for (int i = 0; i < Shape::kValueDim / 2; ++i) {
    values.sums[i / 8][i / 4 % 2][i % 4] = storage.merged[i][thread_x()];
  }
  // Found anew: to remember where the rows lie would take registers that the loop needs.
  const ThreadRows same = rows_of_thread(args, args.work[block_x()], block_y(), warp_of_thread() * 16);
  store_rows<Shape, 1>(args, same, total, 0, values);
}

// Four warps share each tile of rows.
template <class Shape>
__device__ void attend_shared_rows(const AttentionArgs& args, const AttentionWork& work) {
  auto& storage = shared_storage<typename StorageOf<Shape>::Prefill>();
  const ThreadRows rows = rows_of_thread(args, work, block_y(), row_tile_of_warp() * 16);
  SoftmaxState state;
  SoftmaxState total;
  SharedValues<Shape> values;
  SharedValues<Shape> merged;
  walk_keys<Shape>(args, work, block_y(), rows, storage, state, values, [&](int first_key) {
    if (!ends_split(work, first_key)) return;
    MergeFactors factors[2];
    merge_states(state, total, factors);
#pragma unroll
    for (int i = 0; i < 8 * Shape::kStripsPerWarp; ++i) {
      float& kept = merged.sums[i / 8][i / 4 % 2][i % 4];
      float& value = values.sums[i / 8][i / 4 % 2][i % 4];
      kept = merged_value(kept, value, factors[i % 4 / 2]);
      value = 0;
    }
  });
  store_rows<Shape, kSharingWarps>(args, rows, total, quarter_of_warp(), merged);
}

template <class Shape>
__device__ void attend_all(const AttentionArgs& args) {
  const AttentionWork work = args.work[block_x()];
  if (work.num_pairs == 0) return;
  if constexpr (StorageOf<Shape>::kPrefillSharesRows) {
    attend_shared_rows<Shape>(args, work);
  } else {
    attend_own_rows<Shape>(args, work);
  }
}

constexpr int prefill_threads(int head_dim, bool is_latent) {
  return prefill_pairs(head_dim, is_latent) == 32 ? 2 * kSharingWarps * kWarpSize : 4 * kWarpSize;
}

}  // namespace autoglm::cuda
