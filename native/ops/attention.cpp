#include "ops/attention.h"

#include <algorithm>

#include "base/checked.h"
#include "cpu/kernel_table.h"
#include "ops/check.h"

namespace autoglm {
namespace {

// Splits are computed apart only for slices of few rows: long ones give enough chunks by themselves.
constexpr int64_t kMaxSplitTokens = 8;
// Query rows per chunk: K and V of a block are read from the cache this often.
constexpr int64_t kTaskRows = 48;

// A chunk walks through as many splits as leave this many chunks: a block asks the memory for the one after
// it.
constexpr int64_t kChunksPerThread = 8;

int64_t num_splits(const SequenceSlice& sequence) {
  return ceil_div(sequence.start + sequence.count, cpu::kSplitKeys);
}

}  // namespace

int64_t attention_scratch_floats(int64_t max_rows, int64_t num_q_heads, int64_t value_dim) {
  const int64_t rows = checked_mul(max_rows, num_q_heads, "attention scratch");
  return checked_mul(rows, 2 * cpu::attention_partial_floats(value_dim), "attention scratch");
}

void AttentionPlan::build(std::span<const SequenceSlice> sequences, int64_t num_q_heads, int64_t num_kv_heads,
                          int64_t value_dim, int64_t scratch_floats, int num_threads) {
  check_that(num_kv_heads > 0 && num_q_heads > 0 && num_q_heads % num_kv_heads == 0,
             "attention: a number of query heads that is a multiple of the KV heads");
  sequences_.assign(sequences.begin(), sequences.end());
  tasks_.clear();
  rows_.clear();
  num_q_heads_ = num_q_heads;
  num_kv_heads_ = num_kv_heads;
  value_dim_ = value_dim;
  min_split_chunks_ = kChunksPerThread * num_threads;
  num_rows_ = 0;
  for (const SequenceSlice& each : sequences_) num_rows_ += each.count;
  num_partials_ = 2 * num_rows_ * num_q_heads;
  const int64_t capacity = scratch_floats / cpu::attention_partial_floats(value_dim);
  if (num_partials_ > capacity) {
    throw Error(ErrorCode::internal, "attention: " + std::to_string(num_rows_) +
                                         " rows need more scratch memory than the step was given");
  }
  int64_t first_partial = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(sequences_.size()); ++i) {
    const SequenceSlice& each = sequences_[i];
    const int64_t splits = num_splits(each);
    const int64_t extra = each.count * num_q_heads * (splits - 2);
    const bool is_split = splits > 1 && each.count <= kMaxSplitTokens && num_partials_ + extra <= capacity;
    if (is_split) num_partials_ += extra;
    add_sequence(static_cast<int32_t>(i), is_split ? static_cast<int32_t>(splits) : 0, first_partial);
    first_partial += each.count * num_q_heads * (is_split ? splits : 2);
  }
}

void AttentionPlan::add_sequence(int32_t index, int32_t num_splits, int64_t first_partial) {
  const SequenceSlice& sequence = sequences_[index];
  const int64_t heads_per_kv = num_q_heads_ / num_kv_heads_;
  const int64_t tokens_per_task = std::max<int64_t>(1, kTaskRows / heads_per_kv);
  const int64_t partials_per_row = num_splits > 0 ? num_splits : 2;
  // Later tokens see more keys: begin with the longest tasks.
  const int64_t num_tiles = ceil_div(sequence.count, tokens_per_task);
  const int64_t num_pieces = num_splits * num_kv_heads_ * num_tiles;
  const auto splits_per_task = static_cast<int32_t>(std::max<int64_t>(1, num_pieces / min_split_chunks_));
  for (int64_t tile = num_tiles - 1; tile >= 0; --tile) {
    for (int64_t kv_head = 0; kv_head < num_kv_heads_; ++kv_head) {
      const int64_t token = tile * tokens_per_task;
      Task task = {.sequence = index,
                   .kv_head = static_cast<int32_t>(kv_head),
                   .first_token = static_cast<int32_t>(token),
                   .num_tokens = static_cast<int32_t>(std::min(tokens_per_task, sequence.count - token)),
                   .split = -1,
                   .num_splits = 1,
                   .first_partial =
                       first_partial + (kv_head * sequence.count + token) * heads_per_kv * partials_per_row,
                   .partials_per_row = static_cast<int32_t>(partials_per_row)};
      if (num_splits == 0) tasks_.push_back(task);
      for (task.split = 0; task.split < num_splits; task.split += splits_per_task) {
        task.num_splits = std::min(splits_per_task, num_splits - task.split);
        tasks_.push_back(task);
      }
    }
  }
  for (int64_t token = 0; token < sequence.count; ++token) {
    rows_.push_back({.row = static_cast<int64_t>(rows_.size()),
                     .first_partial = first_partial + token * heads_per_kv * partials_per_row,
                     .kv_head_stride = sequence.count * heads_per_kv * partials_per_row,
                     .partials_per_row = static_cast<int32_t>(partials_per_row),
                     .num_partials = num_splits > 0 ? num_splits : 1});
  }
}

void AttentionPlan::check(const AttentionParams& params, std::span<float> scratch) const {
  const KvPages& kv = params.kv;
  check_equal("attention: query heads", params.num_q_heads, num_q_heads_);
  check_equal("attention: KV heads", kv.num_kv_heads, num_kv_heads_);
  check_equal("attention: value dim", kv.value_dim, value_dim_);
  check_that(kv.data != nullptr && kv.page_stride >= kv.page_bytes(), "attention: a KV pool");
  check_that(kv.head_dim > 0 && kv.head_dim % 2 == 0, "attention: an even head dim");
  check_page_dims("attention: pages", kv);
  check_that(kv.value_dim > 0 && kv.value_dim <= cpu::kMaxValueDim, "attention: a value dim in 1..1,024");
  check_view("attention: q", params.q, params.q.num_rows, num_q_heads_ * kv.head_dim);
  check_outputs("attention: output", params.out, params.quantized, num_rows_, num_q_heads_ * kv.value_dim);
  check_that(params.sliding_window >= 0 && (params.is_causal || params.sliding_window == 0),
             "attention: a sliding window only with causal attention");
  check_that(params.soft_cap >= 0, "attention: a soft cap of 0 or more");
  for (const SequenceSlice& each : sequences_) {
    check_that(each.first_row >= 0 && each.first_row + each.count <= params.q.num_rows,
               "attention: slices within the rows of the step");
  }
  check_that(
      static_cast<int64_t>(scratch.size()) >= num_partials_ * cpu::attention_partial_floats(value_dim_),
      "attention: the scratch memory the plan was built for");
}

void attention(const Execution& execution, const AttentionPlan& plan, const AttentionParams& params,
               std::span<float> scratch) {
  plan.check(params, scratch);
  const int64_t partial_floats = cpu::attention_partial_floats(plan.value_dim_);
  const auto attend = [params, scratch, partial_floats, of = &plan, kernel = execution.kernels().attend](
                          int64_t index, int) {
    const AttentionPlan::Task& task = of->tasks_[index];
    for (int32_t split = task.split; split < task.split + task.num_splits; ++split) {
      const int64_t offset = std::max(split, 0);
      kernel(params, {.sequence = of->sequences_[task.sequence],
                      .kv_head = task.kv_head,
                      .first_token = task.first_token,
                      .num_tokens = task.num_tokens,
                      .split = split,
                      .partials = scratch.data() + (task.first_partial + offset) * partial_floats,
                      .row_stride = task.partials_per_row * partial_floats});
    }
  };
  const auto merge = [params, scratch, partial_floats, of = &plan,
                      kernel = execution.kernels().finish_attention](int64_t index, int) {
    const AttentionPlan::Row& row = of->rows_[index];
    kernel(params,
           {.first = scratch.data() + row.first_partial * partial_floats,
            .kv_head_stride = row.kv_head_stride * partial_floats,
            .head_stride = row.partials_per_row * partial_floats,
            .num_partials = row.num_partials},
           row.row);
  };
  execution.run(static_cast<int64_t>(plan.tasks_.size()), attend);
  execution.run(static_cast<int64_t>(plan.rows_.size()), merge);
}

}  // namespace autoglm
