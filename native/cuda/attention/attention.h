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
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kKeyBlock = 64;         // keys that are in shared memory at once
inline constexpr int kSplitKeys = 256;       // keys of one partial result
inline constexpr int kDecodePairs = 16;      // (token, query head) pairs of one block: rows of an m16n8k16
inline constexpr int kPrefillPairs = 64;     // the same for four warps
inline constexpr int kMaxDecodedPairs = 32;  // slices of more pairs are prefilled

// What one block does for one KV head. Pairs are (token, head of the group), token major.
struct AttentionWork {
  int64_t page_table = 0;  // offset in AttentionArgs::page_tables
  int32_t first_row = 0;   // row of the slice's first token
  int32_t first_pair = 0;  // of the slice
  int32_t num_pairs = 0;   // <= kDecodePairs or kPrefillPairs
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
  const Bf16* pages = nullptr;           // as in page_layout.h
  const int32_t* page_tables = nullptr;  // page of tokens 16 i .. 16 i + 15 of each sequence
  const AttentionWork* work = nullptr;   // [num_work]
  float* partials = nullptr;             // decode: [partials][num_kv_heads][kDecodePairs][head_dim + 2]
  uint32_t* tickets = nullptr;           // decode: [partials][num_kv_heads], zero before and after
  Bf16* out = nullptr;                   // [rows, num_q_heads * head_dim]
  int32_t num_work = 0;
  int32_t num_q_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t sliding_window = 0;
  float soft_cap = 0;
  bool is_causal = true;
};

// The work of one step, for every layer with the same window.
struct AttentionPlan {
  std::vector<AttentionWork> decode;
  std::vector<AttentionWork> prefill;
  int32_t num_partials = 0;
};

// `page_tables[i]` is where the table of slices[i] begins.
AttentionPlan plan_attention(std::span<const SequenceSlice> slices, std::span<const int64_t> page_tables,
                             int64_t heads_per_group, bool is_causal, int64_t sliding_window);

constexpr bool has_attention(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }

// `args.work` is the plan's list of that kind.
LaunchShape decode_launch(const AttentionArgs& args);
LaunchShape prefill_launch(const AttentionArgs& args);

}  // namespace autoglm::cuda
