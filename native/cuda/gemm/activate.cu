// activate: out = act(in), or act(gate) * up with gate and up interleaved in `in`
// Shapes: ActivateArgs. Formulas: product.h.
// Rounding: one, to bf16.
// Cost:     memory bound, 6 bytes moved per output, gated 10.
// Twin:     cpu/activation_kernel.h.
#include "cuda/gemm/activate.h"
#include "cuda/gemm/epilogue.cuh"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 256;

__device__ void activate_col(const ActivateArgs& args) {
  const int col = block_y() * kThreads + thread_x();
  if (col >= args.num_cols) return;
  const float* in = args.in + block_x() * args.in_stride;
  float y = activated(args.activation, in[args.is_gated ? gated_row(col, false) : col]);
  if (args.is_gated) y *= in[gated_row(col, true)];
  args.out[block_x() * args.out_stride + col].bits = static_cast<uint16_t>(pack_bf16(y, 0));
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    activate(const __grid_constant__ autoglm::cuda::ActivateArgs args) {
  autoglm::cuda::activate_col(args);
}
