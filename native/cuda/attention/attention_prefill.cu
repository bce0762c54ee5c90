// attention prefill: softmax(q k^T) v for many queries; one block walks all keys of 64 (token, head) pairs.
// Shapes and formulas: AttentionArgs, AttentionParams in base/op_params.h. Layout: page_layout.h.
// Needs:    head_dim 64 or 128, bf16 pages.
// Rounding: as the decode kernel, bit for bit.
// Cost:     compute bound, 4 * head_dim flops per query, head and visible key.
// Twin:     cpu/attention_kernel.h.
#include "cuda/attention/attention_tile.cuh"

namespace autoglm::cuda {
namespace {

template <int kHeadDim>
inline constexpr int kDimPairs = kHeadDim / 16;  // a warp has all dims of its rows

// Takes the split that ends here into those before it, and begins the next one with nothing.
template <int kHeadDim>
__device__ void merge_into(float (&merged)[kHeadDim / 2][kAttentionThreads], bool is_first,
                           SoftmaxState& total, SoftmaxState& state,
                           float (&values)[kDimPairs<kHeadDim>][2][4]) {
  finish_sums(state);
  MergeFactors factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    factors[half] = merge_split(state.largest[half], state.sum[half], total.largest[half], total.sum[half]);
  }
#pragma unroll
  for (int i = 0; i < kHeadDim / 2; ++i) {
    float& value = values[i / 8][i / 4 % 2][i % 4];
    float& kept = merged[i][thread_x()];
    kept = merged_value(is_first ? 0.0f : kept, value, factors[i % 4 / 2]);
    value = 0;
  }
  state = SoftmaxState{};
}

template <int kHeadDim>
__device__ void write_result(const AttentionArgs& args, const ThreadRows& rows, const SoftmaxState& total,
                             const float (&merged)[kHeadDim / 2][kAttentionThreads]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.end_key[half] == 0) continue;
#pragma unroll
    for (int i = 0; i < 2 * kDimPairs<kHeadDim>; ++i) {
      const int dim = i * 8 + lane_of_thread() % 4 * 2;
      store_pair(args.out + rows.offset[half] + dim, merged[4 * i + 2 * half][thread_x()],
                 merged[4 * i + 2 * half + 1][thread_x()], total.sum[half]);
    }
  }
}

template <int kHeadDim>
__device__ void attend_all(const AttentionArgs& args) {
  auto& storage = shared_storage<PrefillStorage<kHeadDim>>();
  const AttentionWork work = args.work[block_x()];
  const int kv_head = block_y();
  load_keys<kHeadDim>(args, work, kv_head, work.first_key, storage.stages[0]);
  const ThreadRows rows = rows_of_thread(args, work, kv_head, warp_of_thread() * 16);
  Queries<kHeadDim> queries;
  load_queries(args, rows, queries);
  SoftmaxState state;
  SoftmaxState total;
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
    float scores[kKeyTiles][4];
    multiply_keys<kHeadDim, kKeyTiles>(queries, stage, 0, scores);
    float shrink[2];
    update_softmax(args, rows, first_key, scores, state, shrink);
    multiply_values<kHeadDim, kDimPairs<kHeadDim>>(scores, shrink, stage, 0, values);
    const bool ends_split = (first_key + kKeyBlock) % kSplitKeys == 0 || block + 1 == num_key_blocks;
    if (ends_split) {
      const bool is_first = first_key - work.first_key < kSplitKeys;
      merge_into<kHeadDim>(storage.merged, is_first, total, state, values);
    }
    sync_threads();
  }
  write_result<kHeadDim>(args, rows, total, storage.merged);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kAttentionThreads)
    attention_prefill_64(const __grid_constant__ autoglm::cuda::AttentionArgs args) {
  autoglm::cuda::attend_all<64>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kAttentionThreads)
    attention_prefill_128(const __grid_constant__ autoglm::cuda::AttentionArgs args) {
  autoglm::cuda::attend_all<128>(args);
}
