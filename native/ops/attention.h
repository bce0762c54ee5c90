// Paged attention: decode and prefill are one operation over the slices of a step.
//
// Every result is computed from blocks of 64 keys and splits of 256 keys at absolute positions, splits merged
// in ascending order, so that its bits depend on nothing but its own sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// How a step's attention is cut in chunks; made once per step and used by every layer of equal head counts.
class AttentionPlan {
 public:
  // Splits are computed apart and merged afterwards where a slice has few rows, as far as the scratch memory
  // allows. `sequences` is copied; the page tables it points to must live as long as the plan is used. Row r
  // of the output is the r-th position of all slices in order, wherever its query lies.
  // `num_threads` decides how many splits in a row one chunk gets, and changes no bit.
  void build(std::span<const SequenceSlice> sequences, int64_t num_q_heads, int64_t num_kv_heads,
             int64_t value_dim, int64_t scratch_floats, int num_threads);

  int64_t num_rows() const { return num_rows_; }

 private:
  friend void attention(const Execution&, const AttentionPlan&, const AttentionParams&, std::span<float>);

  // One chunk; counts of partials are in units of one partial result.
  struct Task {
    int32_t sequence;
    int32_t kv_head;
    int32_t first_token;  // of the slice
    int32_t num_tokens;
    int32_t split;  // the first one; -1: all splits, merged as they come
    int32_t num_splits;
    int64_t first_partial;
    int32_t partials_per_row;
  };

  // Where the partial results of one row are: partials_per_row for each query head, head by head of a KV
  // head.
  struct Row {
    int64_t row;
    int64_t first_partial;
    int64_t kv_head_stride;
    int32_t partials_per_row;
    int32_t num_partials;
  };

  // num_splits is 0 for a slice whose tasks walk through all splits.
  void add_sequence(int32_t index, int32_t num_splits, int64_t first_partial);
  void check(const AttentionParams& params, std::span<float> scratch) const;

  std::vector<SequenceSlice> sequences_;
  std::vector<Task> tasks_;
  std::vector<Row> rows_;
  int64_t num_rows_ = 0;
  int64_t num_partials_ = 0;
  int64_t num_q_heads_ = 0;
  int64_t num_kv_heads_ = 0;
  int64_t value_dim_ = 0;
  int64_t min_split_chunks_ = 1;
};

// Floats of scratch memory that suffice for steps of `max_rows` rows. More lets long contexts of few rows be
// computed by several threads: twice this amount is a good choice.
int64_t attention_scratch_floats(int64_t max_rows, int64_t num_q_heads, int64_t value_dim);

// Throws invalid_parameter for shapes that do not agree and for scratch smaller than the plan was built for.
void attention(const Execution& execution, const AttentionPlan& plan, const AttentionParams& params,
               std::span<float> scratch);

}  // namespace autoglm
