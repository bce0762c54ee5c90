// embedding: out[r] = scale * table[ids[r]] (+ positions[position_ids[r]]) (+ types[type_ids[r]])
// Needs:    hidden even; ids within their tables.
// Rounding: f32, in the order of the formula.
// Cost:     memory bound, 6 to 10 bytes moved per element.
// Twin:     cpu/embedding.cpp.
#include "cuda/rows/embedding.h"
#include "cuda/rows/embedding_row.cuh"

namespace autoglm::cuda {
namespace {

// Columns col and col + 1 of a token.
__device__ EmbeddingPair token_pair(const EmbeddingArgs& args, int64_t id, int col) {
  if (args.layout == DeviceLayout::bf16) {
    return load_pair(static_cast<const Bf16*>(args.table), id, args.hidden, col);
  }
  const auto* halves = static_cast<const uint16_t*>(args.table) + id * args.hidden + col;
  const uint32_t word = *reinterpret_cast<const uint32_t*>(halves);
  return {float_of_half(static_cast<uint16_t>(word)), float_of_half(static_cast<uint16_t>(word >> 16))};
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kEmbeddingThreads)
    embedding_gather(const __grid_constant__ autoglm::cuda::EmbeddingArgs args) {
  using namespace autoglm::cuda;
  const int32_t id = args.ids[block_x()];
  write_embedding(args, args.hidden, [&](int col) { return token_pair(args, id, col); });
}
