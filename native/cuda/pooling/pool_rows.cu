// pool rows: sums[s] += hidden[first_row] + .. in float64; vectors[v] = sums[s] / divisor where a chunk
// completes it Shapes:   PoolArgs. Rounding: float64 over ascending rows, so that no cut into chunks changes
// a bit; one rounding to f32. Cost:     latency bound for one request: 4 bytes read per element, kBatch rows
// under way at once. Twin:     runtime/pooled_requests.cpp, with the same bits.
#include "cuda/device/ptx.cuh"
#include "cuda/pooling/pool_rows.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int kBatch = 16;

// One column of one work per thread.
__device__ void pool_column(const PoolArgs& args) {
  const int col = block_x() * kThreads + thread_x();
  if (col >= args.hidden_size) return;
  const PoolWork work = args.work[block_y()];
  double& kept = args.sums[int64_t{work.sum} * args.hidden_size + col];
  const float* hidden = args.hidden + work.first_row * args.hidden_stride + col;
  double sum = work.begins ? 0.0 : kept;
  int row = 0;
  for (; row + kBatch <= work.num_rows; row += kBatch) {
    float values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) values[i] = hidden[(row + i) * args.hidden_stride];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) sum += static_cast<double>(values[i]);
  }
  for (; row < work.num_rows; ++row) sum += static_cast<double>(hidden[row * args.hidden_stride]);
  kept = sum;
  if (work.vector < 0) return;
  args.vectors[int64_t{work.vector} * args.hidden_size + col] =
      static_cast<float>(sum / static_cast<double>(work.divisor));
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    pool_rows(const __grid_constant__ autoglm::cuda::PoolArgs args) {
  autoglm::cuda::pool_column(args);
}
