// Where a token's key and value lie in the KV pages of a GPU, as index maths alone.
//
// A page holds 16 tokens of one layer: for each KV head first K, then V, both [16 tokens][head_dim] bf16.
// The 16-byte chunks of a token are permuted (swizzled) among themselves by its slot, so that the 8 rows of
// one matrix load from a copy in shared memory meet 8 different groups of banks. A page is copied as it is.
#pragma once

#include <cstdint>

namespace autoglm::cuda {

inline constexpr int kPageTokens = 16;
inline constexpr int kChunkElements = 8;  // 16 bytes of bf16
inline constexpr int kBankGroups = 8;     // 16-byte groups of the 32 banks

// The chunk where chunk `chunk` of the token in `slot` is stored, of `num_chunks` in a token.
// A row that is g * odd chunks long puts 8 / g rows in different bank groups by itself; the permutation of g
// neighbouring chunks tells apart the others.
constexpr int swizzled_chunk(int slot, int chunk, int num_chunks) {
  const int lowest_bit = num_chunks & -num_chunks;
  const int permuted = lowest_bit < kBankGroups ? lowest_bit : kBankGroups;
  return chunk ^ (slot / (kBankGroups / permuted) & (permuted - 1));
}

// Element offset of dim `dim` of the token in `slot`, from the start of its K or V.
constexpr int offset_in_tile(int slot, int dim, int head_dim) {
  const int chunk = swizzled_chunk(slot, dim / kChunkElements, head_dim / kChunkElements);
  return slot * head_dim + chunk * kChunkElements + dim % kChunkElements;
}

constexpr int64_t tile_elements(int head_dim) { return int64_t{kPageTokens} * head_dim; }
constexpr int64_t page_elements(int num_kv_heads, int head_dim) {
  return 2 * num_kv_heads * tile_elements(head_dim);
}
// Element offset of K of one head in a page; V follows tile_elements later.
constexpr int64_t key_tile_offset(int64_t page, int kv_head, int num_kv_heads, int head_dim) {
  return page * page_elements(num_kv_heads, head_dim) + 2 * kv_head * tile_elements(head_dim);
}

}  // namespace autoglm::cuda
