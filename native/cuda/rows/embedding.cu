// embedding: out[r] = scale * table[ids[r]] (+ positions[position_ids[r]]) (+ types[type_ids[r]])
// Needs:    hidden even; ids within their tables.
// Rounding: f32, in the order of the formula.
// Cost:     memory bound, 6 to 10 bytes moved per element.
// Twin:     cpu/embedding.cpp.
#include "cuda/rows/embedding.h"
#include "cuda/rows/embedding_row.cuh"

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kEmbeddingThreads)
    embedding_gather(const __grid_constant__ autoglm::cuda::EmbeddingArgs args) {
  using namespace autoglm::cuda;
  const int32_t id = args.ids[block_x()];
  write_embedding(args, args.hidden, [&](int col) { return load_pair(args.table, id, args.hidden, col); });
}
