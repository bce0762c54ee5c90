// attention decode: softmax(q k^T) v for few queries over one split of 256 keys per block, splits merged by
// the block that finishes last.
// Shapes and formulas: AttentionArgs, AttentionParams in base/op_params.h. Layout: page_layout.h.
// Needs:    head_dim 64 or 128, bf16 pages, tickets 0 (and leaves them 0).
// Rounding: products of bf16 summed in f32; weights rounded to bf16 before they meet the values.
// Cost:     memory bound: every key and value is read once for all query heads of its KV head.
// Twin:     cpu/attention_kernel.h.
//
// Four warps share 16 rows: each scores 16 of the 64 keys, all of them take the softmax of all 64, and each
// multiplies a quarter of the value's dims. So each number has the chain that the prefill kernel gives it.
#include "cuda/attention/attention_tile.cuh"

namespace autoglm::cuda {
namespace {

template <int kHeadDim>
inline constexpr int kDimPairs = kHeadDim / 16 / kAttentionWarps;  // 16 dims each, per warp

__device__ int first_tile_of_warp() { return warp_of_thread() * (kKeyTiles / kAttentionWarps); }

// The warps tell each other their scores: afterwards each thread has those of its rows for all 64 keys.
__device__ void share_scores(float (&mine)[2][4], float (&all)[kDecodePairs][kScoreStride],
                             float (&scores)[kKeyTiles][4]) {
  const int row = lane_of_thread() / 4;
  const int col = lane_of_thread() % 4 * 2;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    all[row + i % 4 / 2 * 8][(first_tile_of_warp() + i / 4) * 8 + col + i % 2] = mine[i / 4][i % 4];
  }
  sync_threads();
#pragma unroll
  for (int i = 0; i < 4 * kKeyTiles; ++i) {
    scores[i / 4][i % 4] = all[row + i % 4 / 2 * 8][i / 4 * 8 + col + i % 2];
  }
}

template <int kHeadDim>
__device__ float* partial_of(const AttentionArgs& args, int64_t partial, int kv_head, int pair) {
  return args.partials +
         ((partial * args.num_kv_heads + kv_head) * kDecodePairs + pair) * int64_t{kHeadDim + 2};
}

template <int kHeadDim>
__device__ void write_partial(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                              const SoftmaxState& state, const float (&values)[kDimPairs<kHeadDim>][2][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pair = lane_of_thread() / 4 + 8 * half;
    if (pair >= work.num_pairs) continue;
    float* partial = partial_of<kHeadDim>(args, work.partial + work.split, kv_head, pair);
#pragma unroll
    for (int i = 0; i < 2 * kDimPairs<kHeadDim>; ++i) {
      const int dim =
          (warp_of_thread() * kDimPairs<kHeadDim> + i / 2) * 16 + i % 2 * 8 + lane_of_thread() % 4 * 2;
      partial[dim] = values[i / 2][i % 2][2 * half];
      partial[dim + 1] = values[i / 2][i % 2][2 * half + 1];
    }
    if (warp_of_thread() == 0 && lane_of_thread() % 4 == 0) {
      partial[kHeadDim] = state.largest[half];
      partial[kHeadDim + 1] = state.sum[half];
    }
  }
}

template <int kHeadDim>
__device__ void write_result(const AttentionArgs& args, const ThreadRows& rows, const SoftmaxState& state,
                             const float (&values)[kDimPairs<kHeadDim>][2][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.end_key[half] == 0) continue;
#pragma unroll
    for (int i = 0; i < 2 * kDimPairs<kHeadDim>; ++i) {
      const int dim =
          (warp_of_thread() * kDimPairs<kHeadDim> + i / 2) * 16 + i % 2 * 8 + lane_of_thread() % 4 * 2;
      store_pair(args.out + rows.offset[half] + dim, values[i / 2][i % 2][2 * half],
                 values[i / 2][i % 2][2 * half + 1], state.sum[half]);
    }
  }
}

// Two dims of one pair per thread and turn.
template <int kHeadDim>
__device__ void merge_partials(const AttentionArgs& args, const AttentionWork& work, int kv_head) {
  constexpr int kDims = kHeadDim / 2;
  const int group = args.num_q_heads / args.num_kv_heads;
  for (int i = thread_x(); i < work.num_pairs * kDims; i += kAttentionThreads) {
    const int pair = i / kDims;
    const int dim = i % kDims * 2;
    float largest = kMinusInfinity;
    float sum = 0;
    float low = 0;
    float high = 0;
    for (int split = 0; split < work.num_splits; ++split) {
      const float* partial = partial_of<kHeadDim>(args, work.partial + split, kv_head, pair);
      const MergeFactors factors = merge_split(partial[kHeadDim], partial[kHeadDim + 1], largest, sum);
      low = merged_value(low, partial[dim], factors);
      high = merged_value(high, partial[dim + 1], factors);
    }
    const int in_slice = work.first_pair + pair;
    const int64_t row = work.first_row + in_slice / group;
    const int64_t head = int64_t{kv_head} * group + in_slice % group;
    store_pair(args.out + (row * args.num_q_heads + head) * kHeadDim + dim, low, high, sum);
  }
}

// True in the block that finishes the tile last: it sees what all others wrote.
template <int kHeadDim>
__device__ bool is_last_split(const AttentionArgs& args, const AttentionWork& work, int kv_head,
                              DecodeStorage<kHeadDim>& storage) {
  sync_threads();
  if (thread_x() == 0) {
    uint32_t* ticket = args.tickets + int64_t{work.partial} * args.num_kv_heads + kv_head;
    storage.is_last = take_ticket(ticket) + 1 == static_cast<uint32_t>(work.num_splits);
    if (storage.is_last != 0) *ticket = 0;
  }
  sync_threads();
  return storage.is_last != 0;
}

template <int kHeadDim>
__device__ void attend_split(const AttentionArgs& args) {
  auto& storage = shared_storage<DecodeStorage<kHeadDim>>();
  const AttentionWork work = args.work[block_x()];
  const int kv_head = block_y();
  load_keys<kHeadDim>(args, work, kv_head, work.first_key, storage.stages[0]);
  const ThreadRows rows = rows_of_thread(args, work, kv_head, 0);
  Queries<kHeadDim> queries;
  load_queries(args, rows, queries);
  SoftmaxState state;
  float values[kDimPairs<kHeadDim>][2][4] = {};

  const int num_key_blocks = (work.end_key - work.first_key + kKeyBlock - 1) / kKeyBlock;
  for (int block = 0; block < num_key_blocks; ++block) {
    const int first_key = work.first_key + block * kKeyBlock;
    if (block + 1 < num_key_blocks) {
      load_keys<kHeadDim>(args, work, kv_head, first_key + kKeyBlock, storage.stages[(block + 1) % 2]);
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    sync_threads();
    const KvStage<kHeadDim>& stage = storage.stages[block % 2];
    float mine[2][4];
    multiply_keys<kHeadDim, 2>(queries, stage, first_tile_of_warp(), mine);
    float scores[kKeyTiles][4];
    share_scores(mine, storage.scores, scores);
    float shrink[2];
    update_softmax(args, rows, first_key, scores, state, shrink);
    multiply_values<kHeadDim, kDimPairs<kHeadDim>>(scores, shrink, stage,
                                                   warp_of_thread() * kDimPairs<kHeadDim>, values);
    sync_threads();
  }
  finish_sums(state);

  if (work.num_splits == 1) {
    write_result<kHeadDim>(args, rows, state, values);
    return;
  }
  write_partial<kHeadDim>(args, work, kv_head, state, values);
  if (is_last_split<kHeadDim>(args, work, kv_head, storage)) merge_partials<kHeadDim>(args, work, kv_head);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kAttentionThreads)
    attention_decode_64(const __grid_constant__ autoglm::cuda::AttentionArgs args) {
  autoglm::cuda::attend_split<64>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kAttentionThreads)
    attention_decode_128(const __grid_constant__ autoglm::cuda::AttentionArgs args) {
  autoglm::cuda::attend_split<128>(args);
}
