// Where a token's key and value lie in the KV pages of a GPU, as index maths alone.
//
// A page holds 16 tokens of one layer. For each KV head: K, then V, both [16 tokens][head_dim]; of int8 and
// fp8 then 16 float scales of K and 16 of V, value = scale * code. Latent pages hold each token once, as K:
// its last dims are the value, too. The 16-byte chunks of a token are permuted (swizzled) among themselves by
// its slot, so that the 8 rows of one matrix load from a copy in shared memory meet 8 different groups of
// banks. A page is copied as it is.
#pragma once

#include <cstdint>

namespace autoglm::cuda {

// fp8 is e4m3 without infinities.
enum class KvType : uint8_t { bf16, int8, fp8 };

inline constexpr int kPageTokens = 16;
inline constexpr int kChunkBytes = 16;
inline constexpr int kBankGroups = 8;  // 16-byte groups of the 32 banks

constexpr int element_bytes(KvType type) { return type == KvType::bf16 ? 2 : 1; }
constexpr bool has_scales(KvType type) { return type != KvType::bf16; }

// The chunk where chunk `chunk` of the token in `slot` is stored, of `num_chunks` in a token.
// A row that is g * odd chunks long puts 8 / g rows in different bank groups by itself; the permutation of g
// neighbouring chunks tells apart the others.
constexpr int swizzled_chunk(int slot, int chunk, int num_chunks) {
  const int lowest_bit = num_chunks & -num_chunks;
  const int permuted = lowest_bit < kBankGroups ? lowest_bit : kBankGroups;
  return chunk ^ (slot / (kBankGroups / permuted) & (permuted - 1));
}

// The pages of one layer.
struct KvLayout {
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;  // a multiple of 16
  KvType type = KvType::bf16;
  bool is_latent = false;  // bf16 only

  constexpr int row_bytes() const { return head_dim * element_bytes(type); }
  constexpr int64_t tile_bytes() const { return int64_t{kPageTokens} * row_bytes(); }
  // Offsets from where a head begins; K is at 0.
  constexpr int64_t value_offset() const { return is_latent ? 0 : tile_bytes(); }
  constexpr int64_t key_scale_offset() const { return value_offset() + tile_bytes(); }
  constexpr int64_t value_scale_offset() const { return key_scale_offset() + kPageTokens * sizeof(float); }

  constexpr int64_t head_bytes() const {
    return key_scale_offset() + (has_scales(type) ? 2 * kPageTokens * sizeof(float) : 0);
  }
  constexpr int64_t page_bytes() const { return num_kv_heads * head_bytes(); }
  constexpr int64_t head_offset(int64_t page, int kv_head) const {
    return page * page_bytes() + kv_head * head_bytes();
  }
  // Of dim `dim` of the token in `slot`, from the start of its K or V.
  constexpr int offset_in_tile(int slot, int dim) const {
    const int byte = dim * element_bytes(type);
    const int chunk = swizzled_chunk(slot, byte / kChunkBytes, row_bytes() / kChunkBytes);
    return slot * row_bytes() + chunk * kChunkBytes + byte % kChunkBytes;
  }
};

}  // namespace autoglm::cuda
