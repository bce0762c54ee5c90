// What attention works on at a time: some query rows, and the pages of one block of keys.
#pragma once

#include "cpu/kernel_table.h"

namespace autoglm::cpu {
namespace {

constexpr int kBlockKeys = 64;  // four pages: enough independent sums to hide the latency of a multiply-add
constexpr int kPageKeys = static_cast<int>(kPageSize);
constexpr int kBlockPages = kBlockKeys / kPageKeys;
constexpr int kMaxTileRows = 4;
constexpr float kNoScore = -__builtin_inff();

// Positions [first, last) that a query row may see.
struct KeyRange {
  int64_t first;
  int64_t last;
};

inline KeyRange visible_keys(const AttentionParams& params, const SequenceSlice& sequence, int64_t token) {
  const int64_t end = sequence.start + sequence.count;
  if (!params.is_causal) return {0, end};
  const int64_t last = sequence.start + token + 1;
  const bool is_limited = params.sliding_window > 0 && last > params.sliding_window;
  return {is_limited ? last - params.sliding_window : 0, last};
}

// The query rows that are computed together.
struct QueryTile {
  int num_rows;
  const float* q[kMaxTileRows];
  KeyRange keys[kMaxTileRows];
  float* partial[kMaxTileRows];  // {values [padded], maximum, sum}
};

// Pages [first_page, last_page) of a block for one KV head; the others hold nothing that a row of the tile
// sees.
struct BlockPages {
  int first_page;
  int last_page;
  const std::byte* keys[kBlockPages];
  const std::byte* values[kBlockPages];
  // The same pages of the next block, to be asked for line by line while these are read: the pages of a
  // sequence lie apart, so that the processor sees no stream. These pages themselves where nothing follows.
  const std::byte* next_keys[kBlockPages];
  const std::byte* next_values[kBlockPages];
};

// Asks for the line of 64 bytes around an address.
inline void prefetch(const std::byte* line) {
  // GCC 12 takes a function that only prefetches for one without effects, and drops its calls.
  asm volatile("" : : "r"(line));
  __builtin_prefetch(line, 0, 2);
}

// The scores of a block from those of one of its pages on.
inline float (*from_page(float (*scores)[kBlockKeys], int page))[kBlockKeys] {
  return reinterpret_cast<float(*)[kBlockKeys]>(&scores[0][page * kPageKeys]);
}

}  // namespace
}  // namespace autoglm::cpu
