// embedding: out[r] = scale * table[ids[r]] (+ positions[position_ids[r]]) (+ types[type_ids[r]])
// Needs:    hidden even; ids within their tables.
// Rounding: f32, in the order of the formula.
// Cost:     memory bound, 6 to 10 bytes moved per element.
// Twin:     cpu/embedding.cpp.
#include "cuda/device/ptx.cuh"
#include "cuda/rows/embedding.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 128;

struct alignas(8) Pair {
  float low;
  float high;
};

__device__ Pair load_pair(const Bf16* table, int64_t row, int hidden, int col) {
  const uint32_t word = *reinterpret_cast<const uint32_t*>(table + row * hidden + col);
  return {float_of_bits(word << 16), float_of_bits(word & 0xffff0000u)};
}

// One block per row.
__device__ void gather_row(const EmbeddingArgs& args) {
  const int row = block_x();
  for (int col = 2 * thread_x(); col < args.hidden; col += 2 * kThreads) {
    Pair sum = load_pair(args.table, args.ids[row], args.hidden, col);
    sum = {sum.low * args.scale, sum.high * args.scale};
    if (args.positions != nullptr) {
      const Pair added = load_pair(args.positions, args.position_ids[row], args.hidden, col);
      sum = {sum.low + added.low, sum.high + added.high};
    }
    if (args.types != nullptr) {
      const Pair added = load_pair(args.types, args.type_ids[row], args.hidden, col);
      sum = {sum.low + added.low, sum.high + added.high};
    }
    *reinterpret_cast<Pair*>(args.out + int64_t{row} * args.hidden + col) = sum;
  }
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    embedding_gather(const __grid_constant__ autoglm::cuda::EmbeddingArgs args) {
  autoglm::cuda::gather_row(args);
}
