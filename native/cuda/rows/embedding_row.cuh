// A row of an embedding: what its kernels share, whatever the token table is stored as.
#pragma once

#include "cuda/device/ptx.cuh"

namespace autoglm::cuda {

inline constexpr int kEmbeddingThreads = 128;

struct alignas(8) EmbeddingPair {
  float low;
  float high;
};

__device__ inline EmbeddingPair load_pair(const Bf16* table, int64_t row, int hidden, int col) {
  const uint32_t word = *reinterpret_cast<const uint32_t*>(table + row * hidden + col);
  return {float_of_bits(word << 16), float_of_bits(word & 0xffff0000u)};
}

// Columns col and col + 1 of row `row`, of the table of the positions or token types where there is one.
__device__ inline EmbeddingPair added(const EmbeddingPair& sum, const Bf16* table, const int32_t* ids,
                                      int row, int hidden, int col) {
  if (table == nullptr) return sum;
  const EmbeddingPair more = load_pair(table, ids[row], hidden, col);
  return {sum.low + more.low, sum.high + more.high};
}

// One block per row. `token_pair(col)` gives columns col and col + 1 of the row's token; Args are those of
// embedding.h or quantized_embedding.h.
template <typename Args, typename TokenPair>
__device__ void write_embedding(const Args& args, int hidden, const TokenPair& token_pair) {
  const int row = block_x();
  for (int col = 2 * thread_x(); col < hidden; col += 2 * kEmbeddingThreads) {
    const EmbeddingPair token = token_pair(col);
    EmbeddingPair sum = {token.low * args.scale, token.high * args.scale};
    sum = added(sum, args.positions, args.position_ids, row, hidden, col);
    sum = added(sum, args.types, args.type_ids, row, hidden, col);
    *reinterpret_cast<EmbeddingPair*>(args.out + int64_t{row} * hidden + col) = sum;
  }
}

}  // namespace autoglm::cuda
