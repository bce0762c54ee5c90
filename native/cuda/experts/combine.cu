// combine: out[r] = residual[r] + scale * (sum over j of weights[r, j] * in[pair_of[r, j]]
//                                          + gate[r] * shared[r])
// Shapes and formulas: CombineArgs, CombineParams in base/expert_params.h.
// Needs:    pointers aligned to kWidth floats, num_cols % kWidth == 0.
// Rounding: one f32 chain per output, j ascending.
// Cost:     memory bound, 4 * (num_chosen + 3) bytes moved per output.
// Twin:     cpu/combine_kernel.h.
#include "cuda/device/ptx.cuh"
#include "cuda/experts/combine.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 128;

template <int kWidth>
struct alignas(kWidth * sizeof(float)) Columns {
  float value[kWidth];
};

template <int kWidth>
__device__ Columns<kWidth> load_columns(const float* rows, int64_t offset) {
  return *reinterpret_cast<const Columns<kWidth>*>(rows + offset);
}

// sum += weights[j] * in[pairs[j]] for j in 0..kCount-1, all reads under way at once: a step of few rows
// waits for memory once, not once for each expert.
template <int kCount, int kWidth>
__device__ void add_experts(const CombineArgs& args, const int32_t* pairs, const float* weights, int col,
                            Columns<kWidth>& sum) {
  Columns<kWidth> in[kCount];
  float weight[kCount];
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    in[j] = load_columns<kWidth>(args.in, int64_t{pairs[j]} * args.num_cols + col);
    weight[j] = weights[j];
  }
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.value[i] = multiply_add(weight[j], in[j].value[i], sum.value[i]);
  }
}

// kWidth columns of one row per thread.
template <int kWidth>
__device__ void combine_columns(const CombineArgs& args) {
  const int64_t row = block_x();
  const int col = (block_y() * kThreads + thread_x()) * kWidth;
  if (col >= args.num_cols) return;
  const int32_t* pairs = args.pair_of + row * args.num_chosen;
  const float* weights = args.weights + row * args.num_chosen;
  const int num_chosen = pairs[0] < 0 ? 0 : args.num_chosen;
  Columns<kWidth> sum = {};
  int j = 0;
  for (; j + 4 <= num_chosen; j += 4) add_experts<4, kWidth>(args, pairs + j, weights + j, col, sum);
  for (; j < num_chosen; ++j) add_experts<1, kWidth>(args, pairs + j, weights + j, col, sum);
  const int64_t offset = row * args.num_cols + col;
  if (args.shared != nullptr) {
    const float gate =
        args.shared_gate == nullptr ? 1.0f : 1.0f / (1.0f + expf(-args.shared_gate[row * args.gate_stride]));
    const Columns<kWidth> shared = load_columns<kWidth>(args.shared, offset);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.value[i] = multiply_add(gate, shared.value[i], sum.value[i]);
  }
  Columns<kWidth> residual = {};
  if (args.residual != nullptr) residual = load_columns<kWidth>(args.residual, offset);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    sum.value[i] = multiply_add(args.scale, sum.value[i], residual.value[i]);
  }
  *reinterpret_cast<Columns<kWidth>*>(args.out + offset) = sum;
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    combine_by_4(const __grid_constant__ autoglm::cuda::CombineArgs args) {
  autoglm::cuda::combine_columns<4>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    combine_by_1(const __grid_constant__ autoglm::cuda::CombineArgs args) {
  autoglm::cuda::combine_columns<1>(args);
}
