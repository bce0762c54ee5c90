// lora: out[r] += scale * B (A in[r]) for runs of rows that share an adapter
// Shapes and formulas: LoraArgs.
// Needs:    k, ranks and strides that are multiples of 8; no row in two runs.
// Rounding: f32 throughout; a in dot_products.cuh's order, b with ascending rank.
// Cost:     memory bound: a once per 4 rows, b once per 16 rows, 8 bytes per output.
// Source:   Punica (arXiv 2310.18547), section 4: rows grouped by adapter, shrink and expand.
// Twin:     model/adapter_rows.cpp.
#include "cuda/gemm/dot_products.cuh"
#include "cuda/gemm/lora.h"
#include "cuda/gemm/lora_storage.h"

namespace autoglm::cuda {
namespace {

struct alignas(16) Low4 {
  float value[4];
};

// Eight ranks of four rows per block; surplus blocks, of smaller adapters and shorter runs, leave at once.
__device__ void shrink_rows(const LoraArgs& args) {
  auto& storage = shared_storage<GemvStorage<kShrinkRows>>();
  const LoraRun run = args.runs[block_x()];
  const LoraAdapter adapter = args.adapters[run.adapter];
  const int group = block_y() % (kLoraRows / kShrinkRows);
  const int first_low = block_y() / (kLoraRows / kShrinkRows) * kGemvWeightRows;
  const int num_rows = run.num_rows - group * kShrinkRows;
  if (num_rows <= 0 || first_low >= adapter.rank) return;
  const int64_t first_row = run.first_row + group * kShrinkRows;
  const Bf16* in[kShrinkRows];
  const uint16_t* a[kGemvWeightRows];
#pragma unroll
  for (int i = 0; i < kShrinkRows; ++i) {
    in[i] = args.in + (first_row + (i < num_rows ? i : num_rows - 1)) * args.in_stride;
  }
#pragma unroll
  for (int i = 0; i < kGemvWeightRows; ++i) {
    a[i] = reinterpret_cast<const uint16_t*>(adapter.a + int64_t{first_low + i} * args.k);
  }
  dot_products<kShrinkRows, DeviceLayout::bf16>(in, a, args.k, storage);
  const int row = thread_x() % kShrinkRows;
  const int low = thread_x() / kShrinkRows;
  if (low >= kGemvWeightRows || row >= num_rows) return;
  args.low[(first_row + row) * args.max_rank + first_low + low] =
      sum_of_warps<kShrinkRows>(storage, thread_x());
}

__device__ void multiply_low(const LoraArgs& args, const LoraRun& run, const LoraPart& part, int col,
                             float (&sums)[kLoraRows]) {
  const Bf16* b = part.b + int64_t{col} * part.rank;
  for (int first = 0; first < part.rank; first += kChunkBf16s) {
    const auto words = *reinterpret_cast<const Words4*>(b + first);
    const float* low = args.low + int64_t{run.first_row} * args.max_rank + part.first_low + first;
#pragma unroll
    for (int row = 0; row < kLoraRows; ++row) {
      if (row >= run.num_rows) continue;
      // The same address in all lanes: one transaction.
      const auto* fours = reinterpret_cast<const Low4*>(low + int64_t{row} * args.max_rank);
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const Low4 four = fours[word / 2];
        sums[row] = multiply_add(low_of(words.word[word]), four.value[word % 2 * 2], sums[row]);
        sums[row] = multiply_add(high_of(words.word[word]), four.value[word % 2 * 2 + 1], sums[row]);
      }
    }
  }
}

// One column of the product per thread, all rows of the run.
__device__ void expand_rows(const LoraArgs& args) {
  const LoraRun run = args.runs[block_x()];
  const LoraAdapter adapter = args.adapters[run.adapter];
  const int col = block_y() * kExpandThreads + thread_x();
  if (col >= args.num_cols) return;
  int64_t to = col;
  if (args.gated_cols > 0) {
    const bool is_up = col >= args.gated_cols;
    to = gated_row(is_up ? col - args.gated_cols : col, is_up);
  }
  float* out = args.out + run.first_row * args.out_stride + to;
  for (int i = 0; i < adapter.num_parts; ++i) {
    const LoraPart part = args.parts[adapter.first_part + i];
    const int in_part = col - part.first_col;
    if (in_part < 0 || in_part >= part.num_cols) continue;
    float sums[kLoraRows] = {};
    multiply_low(args, run, part, in_part, sums);
    const float scale = args.scale * part.scale;
#pragma unroll
    for (int row = 0; row < kLoraRows; ++row) {
      if (row >= run.num_rows) continue;
      float& sum = out[row * args.out_stride];
      sum = multiply_add(scale, sums[row], sum);
    }
  }
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kGemvThreads, 4)
    lora_shrink(const __grid_constant__ autoglm::cuda::LoraArgs args) {
  autoglm::cuda::shrink_rows(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kExpandThreads)
    lora_expand(const __grid_constant__ autoglm::cuda::LoraArgs args) {
  autoglm::cuda::expand_rows(args);
}
