// Arguments and launches of expert_pairs.cu.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kPairRows = 256;  // rows that one block orders

// The (row, expert) pairs of a step, numbered by expert and by row within one: what ExpertRows of product.h
// and combine.h read. Rows from the valid ones on are padding and have no pair.
struct ExpertPairArgs {
  const int32_t* experts = nullptr;  // [num_rows, num_chosen], in 0..num_experts-1, no two of a row equal
  const int32_t* num_valid_rows = nullptr;  // optional, on the device: rows that are no padding
  int32_t* first_pairs = nullptr;           // [num_experts + 1]
  int32_t* pair_rows = nullptr;             // [num_rows * num_chosen]: 0 where there is no such pair
  int32_t* pair_of = nullptr;               // [num_rows, num_chosen]: -1 in padding
  int32_t* counts = nullptr;                // scratch of as many words as pair_count_words says
  int32_t num_rows = 0;
  int32_t num_chosen = 0;
  int32_t num_experts = 0;
};

constexpr int64_t num_pair_chunks(int64_t num_rows) { return ceil_div(num_rows, kPairRows); }
constexpr int64_t pair_count_words(int64_t num_rows, int64_t num_experts) {
  return num_pair_chunks(num_rows) <= 1 ? 0 : num_pair_chunks(num_rows) * num_experts;
}

// Two launches in this order; the first has nothing to do where one block takes all rows.
LaunchShape count_pairs_launch(const ExpertPairArgs& args);
LaunchShape place_pairs_launch(const ExpertPairArgs& args);

}  // namespace autoglm::cuda
