// gemv: out = epilogue(in * w^T) for 1 to 4 rows; a block has 8 rows of weights.
// Shapes and formulas: ProductArgs in product.h.
// Needs:    what gemm.h lists; a dense product of at most kRows rows.
// Rounding, cost: dot_products.cuh.
// Twin:     cpu/matmul_kernel.h.
#include "cuda/gemm/dot_products.cuh"
#include "cuda/gemm/epilogue.cuh"

namespace autoglm::cuda {
namespace {

// Row of w that is the block's `i`th; its last half is the partners of the first where pairs are gated.
__device__ int weight_row(bool is_gated, int i) {
  constexpr int kPairs = kGemvWeightRows / 2;
  if (!is_gated) return block_x() * kGemvWeightRows + i;
  return static_cast<int>(gated_row(block_x() * kPairs + i % kPairs, i >= kPairs));
}

template <int kRows, DeviceLayout kLayout>
__device__ void multiply_rows(const ProductArgs& args) {
  auto& storage = shared_storage<GemvStorage<kRows>>();
  const bool is_gated = args.epilogue == Epilogue::gated;
  const Bf16* in[kRows];
  const uint16_t* weights[kGemvWeightRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = i < args.num_rows ? i : args.num_rows - 1;  // twice the last one, written once
    in[i] = args.in + (args.input_rows == nullptr ? row : args.input_rows[row]) * args.in_stride;
  }
#pragma unroll
  for (int i = 0; i < kGemvWeightRows; ++i) {
    const int row = weight_row(is_gated, i);
    weights[i] = static_cast<const uint16_t*>(args.w.weights) +
                 int64_t{row < args.w.n ? row : args.w.n - 1} * args.w.row_stride;
  }
  dot_products<kRows, kLayout>(in, weights, args.w.k, storage);

  const int place = thread_x() / kRows;
  const int row = thread_x() % kRows;
  const int first = weight_row(is_gated, place);
  const int num_places = is_gated ? kGemvWeightRows / 2 : kGemvWeightRows;
  if (place >= num_places || row >= args.num_rows || first >= args.w.n) return;
  float y = biased(args, sum_of_warps<kRows>(storage, thread_x()), first);
  if (args.epilogue != Epilogue::plain) y = activated(args.activation, y);
  if (is_gated) {
    const float up = sum_of_warps<kRows>(storage, thread_x() + num_places * kRows);
    y *= biased(args, up, first + kGateRows);
  }
  write_output(args, row * args.out_stride + block_x() * num_places + place, y);
}

}  // namespace
}  // namespace autoglm::cuda

// The second bound is the number of blocks that a multiprocessor's registers hold: enough loads under way.
extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 6)
    gemv_1(const __grid_constant__ autoglm::cuda::ProductArgs args) {
  autoglm::cuda::multiply_rows<1, autoglm::cuda::DeviceLayout::bf16>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 5)
    gemv_2(const __grid_constant__ autoglm::cuda::ProductArgs args) {
  autoglm::cuda::multiply_rows<2, autoglm::cuda::DeviceLayout::bf16>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 4)
    gemv_4(const __grid_constant__ autoglm::cuda::ProductArgs args) {
  autoglm::cuda::multiply_rows<4, autoglm::cuda::DeviceLayout::bf16>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 6)
    gemv_1_f16(const __grid_constant__ autoglm::cuda::ProductArgs args) {
  autoglm::cuda::multiply_rows<1, autoglm::cuda::DeviceLayout::f16>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 5)
    gemv_2_f16(const __grid_constant__ autoglm::cuda::ProductArgs args) {
  autoglm::cuda::multiply_rows<2, autoglm::cuda::DeviceLayout::f16>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 4)
    gemv_4_f16(const __grid_constant__ autoglm::cuda::ProductArgs args) {
  autoglm::cuda::multiply_rows<4, autoglm::cuda::DeviceLayout::f16>(args);
}
