// gather rows: out[i] = in[rows[i]]
// Needs:    what GatherRowsArgs says; rows within `in`.
// Cost:     memory bound, 2 bytes moved per byte.
// Twin:     ops/gather_rows.cpp.
#include "cuda/device/ptx.cuh"
#include "cuda/rows/gather_rows.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 128;

// One block per row.
__device__ void gather_row(const GatherRowsArgs& args) {
  const int64_t row = args.rows[block_x()];
  if (row < 0) return;
  const auto* in = static_cast<const uint8_t*>(args.in) + row * args.in_stride;
  auto* out = static_cast<uint8_t*>(args.out) + int64_t{block_x()} * args.out_stride;
  for (int i = thread_x() * 16; i < args.row_bytes; i += kThreads * 16) {
    *reinterpret_cast<Words4*>(out + i) = *reinterpret_cast<const Words4*>(in + i);
  }
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    gather_rows(const __grid_constant__ autoglm::cuda::GatherRowsArgs args) {
  autoglm::cuda::gather_row(args);
}
