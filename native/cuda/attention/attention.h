// Arguments, plan and launch of the attention kernels.
//
// Every result comes from blocks of 64 keys and splits of 256 keys at absolute positions, splits merged in
// ascending order; a row leaves its state alone where it sees nothing. So its bits depend on its own sequence
// alone, and are the same from the decode and the prefill kernel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/op_params.h"
#include "cuda/attention/page_layout.h"
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kKeyBlock = 64;         // keys that are in shared memory at once
inline constexpr int kSplitKeys = 256;       // keys of one partial result
inline constexpr int kDecodePairs = 16;      // (token, query head) pairs of one block: rows of an m16n8k16
inline constexpr int kMaxDecodedPairs = 32;  // slices of more pairs and more than one token are prefilled

// What one block does for one KV head. Pairs are (token, head of the group), token major. A step recorded in
// a graph has room for more work than it is given: a block without pairs does nothing.
struct AttentionWork {
  int64_t page_table = 0;  // offset in AttentionArgs::page_tables
  int32_t first_row = 0;   // row of the slice's first token
  int32_t first_pair = 0;  // of the slice
  int32_t num_pairs = 0;   // <= kDecodePairs or prefill_pairs; 0: nothing to do
  int32_t start = 0;       // position of the slice's first token
  int32_t seq_len = 0;     // keys of the sequence, those of this step included
  int32_t first_key = 0;   // a multiple of kSplitKeys
  int32_t end_key = 0;     // decode: at most one split further
  int32_t partial = 0;     // decode: the tile's first partial, and its ticket
  int32_t split = 0;       // decode: which of num_splits
  int32_t num_splits = 1;  // decode
};

// q comes from kv_append, scaled as for the CPU (ops/kv_append.h). Fields as in AttentionParams.
struct AttentionArgs {
  const Bf16* q = nullptr;               // [rows, num_q_heads * head_dim]
  const uint8_t* pages = nullptr;        // as in page_layout.h, 16-byte aligned
  const int32_t* page_tables = nullptr;  // page of tokens 16 i .. 16 i + 15 of each sequence
  const AttentionWork* work = nullptr;   // [num_work]
  float* partials = nullptr;             // decode: [partials][num_kv_heads][kDecodePairs][value_dim + 2]
  uint32_t* tickets = nullptr;           // decode: [partials][num_kv_heads], zero before and after
  Bf16* out = nullptr;                   // [rows, num_q_heads * value_dim]
  int32_t num_work = 0;
  int32_t num_q_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;   // of queries and keys
  int32_t value_dim = 0;  // head_dim, but for latent pages
  int32_t sliding_window = 0;
  float soft_cap = 0;
  KvType kv_type = KvType::bf16;
  bool is_latent = false;
  bool is_causal = true;

  constexpr KvLayout layout() const { return {num_kv_heads, head_dim, kv_type, is_latent}; }
};

// Pairs of one block of the prefill kernel, by what fits its registers and shared memory.
constexpr int prefill_pairs(int64_t head_dim, bool is_latent) {
  return is_latent ? 16 : head_dim > 128 ? 32 : 64;
}

// The work of one step, for every layer with the same window and the same prefill_pairs.
struct AttentionPlan {
  std::vector<AttentionWork> decode;
  std::vector<AttentionWork> prefill;
  int32_t num_partials = 0;
};

struct AttentionGrouping {
  int64_t heads_per_group = 1;
  int64_t prefill_pairs = 64;
  bool is_causal = true;
  int64_t sliding_window = 0;
};

// `page_tables[i]` is where the table of slices[i] begins.
AttentionPlan plan_attention(std::span<const SequenceSlice> slices, std::span<const int64_t> page_tables,
                             const AttentionGrouping& grouping);

// Whether kernels exist for these heads (head_dims.def) in pages of this kind.
bool has_attention(int64_t head_dim, int64_t value_dim, KvType kv_type, bool is_latent);

// `args.work` is the plan's list of that kind.
LaunchShape decode_launch(const AttentionArgs& args);
LaunchShape prefill_launch(const AttentionArgs& args);

}  // namespace autoglm::cuda
