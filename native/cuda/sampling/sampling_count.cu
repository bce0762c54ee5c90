// sampling count: counts[token] = how often it occurs in the output, and whether in the prompt or the biases.
// Needs:    counts are 0. The scan reads them and sets them back to 0.
// Cost:     one atomic operation a token of the history, 8 blocks a row.
// Twin:     Row::token_counts of runtime/row.cpp.
#include "cuda/sampling/sampling_block.cuh"

namespace autoglm::cuda {
namespace {

__device__ void count_tokens(const SamplingArgs& args) {
  constexpr int kBlocksPerRow = 8;
  const RowView view(args, block_y());
  if (!view.is_adjusted()) return;
  const SamplingRow& row = view.row;
  uint32_t* counts = view.counts();
  const int first = block_x() * kSamplingThreads + thread_x();
  constexpr int kStep = kBlocksPerRow * kSamplingThreads;
  for (int i = first; i < row.num_biases; i += kStep) {
    set_bits_global(counts + args.biases[row.first_bias + i].token, kHasBias);
  }
  const bool penalizes_output = row.penalties.presence != 0 || row.penalties.frequency != 0;
  const bool penalizes_prompt = row.penalties.repetition != 1;
  if (!penalizes_output && !penalizes_prompt) return;
  const int32_t* history = args.tokens + row.first_token;
  for (int i = first + (penalizes_prompt ? 0 : row.num_prompt_tokens); i < row.num_tokens; i += kStep) {
    if (i < row.num_prompt_tokens) {
      set_bits_global(counts + history[i], kIsInPrompt);
    } else {
      take_global(counts + history[i], 1);
    }
  }
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kSamplingThreads)
    sampling_count(const __grid_constant__ autoglm::cuda::SamplingArgs args) {
  autoglm::cuda::count_tokens(args);
}
