// attention decode: softmax(q k^T) v for few queries over one split of 256 keys per block, splits merged by
// the block that finishes last.
// Shapes and formulas: AttentionArgs, AttentionParams in base/op_params.h. Layout: page_layout.h.
// Needs:    heads of head_dims.def, tickets 0 (and leaves them 0).
// Rounding: products of bf16 summed in f32; weights, times the scales of values, rounded to bf16 before they
//           meet the values. Codes of 8 bits become bf16 exactly.
// Cost:     memory bound: every key and value is read once for the query heads of a block.
// Twin:     cpu/attention_kernel.h.
#pragma once

#include "cuda/attention/attention_shared_rows.cuh"

namespace autoglm::cuda {

template <class Shape>
__device__ float* partial_of(const AttentionArgs& args, int64_t partial, int kv_head, int pair) {
  return args.partials +
         ((partial * args.num_kv_heads + kv_head) * kDecodePairs + pair) * int64_t{Shape::kValueDim + 2};
}

template <class Shape>
__device__ void write_partial(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                              const SoftmaxState& state, const SharedValues<Shape>& values) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pair = lane_of_thread() / 4 + 8 * half;
    if (pair >= work.num_pairs) continue;
    float* partial = partial_of<Shape>(args, work.partial + work.split, kv_head, pair);
#pragma unroll
    for (int i = 0; i < 2 * Shape::kStripsPerWarp; ++i) {
      const int strip = quarter_of_warp() + kSharingWarps * (i / 2);
      if (strip >= Shape::kStrips) break;
      *reinterpret_cast<Couple*>(partial + dim_of_couple<Shape>(strip, i % 2)) =
          couple_of<Shape>(values.sums[i / 2], i % 2, half);
    }
    if (quarter_of_warp() == 0 && lane_of_thread() % 4 == 0) {
      *reinterpret_cast<Couple*>(partial + Shape::kValueDim) = {state.largest[half], state.sum[half]};
    }
  }
}

// Two dims of one pair per thread and turn.
template <class Shape>
__device__ void merge_partials(const AttentionArgs& args, const AttentionWork& work, int kv_head) {
  constexpr int kCouples = Shape::kValueDim / 2;
  for (int i = thread_x(); i < work.num_pairs * kCouples; i += kSharingWarps * kWarpSize) {
    const int pair = i / kCouples;
    const int dim = i % kCouples * 2;
    float largest = kMinusInfinity;
    float sum = 0;
    Couple merged{0, 0};
    for (int split = 0; split < work.num_splits; ++split) {
      const float* partial = partial_of<Shape>(args, work.partial + split, kv_head, pair);
      const auto state = *reinterpret_cast<const Couple*>(partial + Shape::kValueDim);
      const auto value = *reinterpret_cast<const Couple*>(partial + dim);
      const MergeFactors factors = merge_split(state.low, state.high, largest, sum);
      merged = {merged_value(merged.low, value.low, factors), merged_value(merged.high, value.high, factors)};
    }
    const int64_t head = head_of_pair(args, work, kv_head, work.first_pair + pair);
    store_couple(args.out + head * Shape::kValueDim + dim, merged, sum);
  }
}

// True in the block that finishes the tile last: it sees what all others wrote.
template <class Storage>
__device__ bool is_last_split(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                              Storage& storage) {
  sync_threads();
  if (thread_x() == 0) {
    uint32_t* ticket = args.tickets + int64_t{work.partial} * args.num_kv_heads + kv_head;
    storage.is_last = take_ticket(ticket) + 1 == static_cast<uint32_t>(work.num_splits);
    if (storage.is_last != 0) *ticket = 0;
  }
  sync_threads();
  return storage.is_last != 0;
}

template <class Shape>
__device__ void attend_split(const AttentionArgs& args) {
  auto& storage = shared_storage<typename StorageOf<Shape>::Decode>();
  const AttentionWork work = args.work[block_x()];
  if (work.num_pairs == 0) return;
  const int kv_head = block_y();
  const ThreadRows rows = rows_of_thread(args, work, kv_head, 0);
  SoftmaxState state;
  SharedValues<Shape> values;
  walk_keys<Shape>(args, work, kv_head, rows, storage, state, values, [](int) {});
  finish_sums(state);

  if (work.num_splits == 1) {
    store_rows<Shape, kSharingWarps>(args, rows, state, quarter_of_warp(), values);
    return;
  }
  write_partial<Shape>(args, work, kv_head, state, values);
  if (is_last_split(args, work, kv_head, storage)) merge_partials<Shape>(args, work, kv_head);
}

inline constexpr int kDecodeThreads = kSharingWarps * kWarpSize;
// Blocks of an SM whose registers fit without a spill: what is in flight hides the memory's latency.
constexpr int decode_blocks(int head_dim, KvType type) {
  const int most_for_four = has_scales(type) ? 128 : 112;
  return head_dim <= most_for_four ? 4 : head_dim <= 192 ? 3 : 2;
}

}  // namespace autoglm::cuda
