// gather tokens: ids[i] = sources[i] < 0 ? given[i] : sampled[sources[i]].token, 0 where none was drawn
// Needs:    sources below the number of sampled rows.
// Cost:     12 bytes moved a token.
#include "cuda/device/ptx.cuh"
#include "cuda/sampling/sampling.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 256;

__device__ void gather(const GatherTokensArgs& args) {
  const int i = block_x() * kThreads + thread_x();
  if (i >= args.num_ids) return;
  const int32_t source = args.sources[i];
  const int32_t id = source < 0 ? args.given[i] : args.sampled[source].token;
  args.ids[i] = id < 0 ? 0 : id;  // the row has ended, but its next step is on its way
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    gather_tokens(const __grid_constant__ autoglm::cuda::GatherTokensArgs args) {
  autoglm::cuda::gather(args);
}
