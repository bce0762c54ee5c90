// expert pairs: numbers the (row, expert) pairs of a step by expert, rows ascending within one
// Shapes:   ExpertPairArgs.
// Needs:    num_experts <= 512, num_rows * num_chosen below 2^31.
// Cost:     latency bound, 20 bytes moved per pair; 256 rows in one launch of one block, more in two of a
// block
//           for each 256, every one of which adds up all counts for itself.
// Twin:     ExpertPairs in ops/route.h.
#include "cuda/experts/pair_order.cuh"

namespace autoglm::cuda {
namespace {

constexpr int kPairWords = kPairRows / 32;

__device__ void count_pairs(const ExpertPairArgs& args) {
  auto& storage = shared_storage<PairStorage<kPairWords>>();
  mark_rows<kPairWords>(args, chunk_of_block<kPairWords>(args, block_x()), storage);
  sync_threads();
  if (thread_x() >= args.num_experts) return;
  args.counts[int64_t{block_x()} * args.num_experts + thread_x()] = count_rows<kPairWords>(storage);
}

__device__ void place_pairs(const ExpertPairArgs& args) {
  auto& storage = shared_storage<PairStorage<kPairWords>>();
  mark_rows<kPairWords>(args, chunk_of_block<kPairWords>(args, block_x()), storage);
  int before = 0;
  int all = 0;
  if (thread_x() < args.num_experts) {
    const int num_chunks = (args.num_rows + kPairRows - 1) / kPairRows;
#pragma unroll 8
    for (int chunk = 0; chunk < num_chunks; ++chunk) {
      const int count = args.counts[int64_t{chunk} * args.num_experts + thread_x()];
      before += chunk < block_x() ? count : 0;
      all += count;
    }
  }
  sync_threads();
  place_rows<kPairWords>(args, chunk_of_block<kPairWords>(args, block_x()), before, all, storage);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kPairThreads)
    expert_pairs_alone(const __grid_constant__ autoglm::cuda::ExpertPairArgs args) {
  using namespace autoglm::cuda;
  order_pairs(args, shared_storage<PairStorage<kPairWords>>());
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kPairThreads)
    expert_pairs_count(const __grid_constant__ autoglm::cuda::ExpertPairArgs args) {
  autoglm::cuda::count_pairs(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kPairThreads)
    expert_pairs_place(const __grid_constant__ autoglm::cuda::ExpertPairArgs args) {
  autoglm::cuda::place_pairs(args);
}
