#include "ops/kv_append.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kMaxHeadDim = 1024;

void check_append(const KvAppendParams& params) {
  const KvPages& kv = params.kv;
  const int64_t num_rows = params.q.num_rows;
  check_that(kv.data != nullptr && kv.page_stride >= kv.page_bytes(), "kv append: a KV pool");
  check_that(kv.head_dim > 0 && kv.head_dim % 2 == 0 && kv.head_dim <= kMaxHeadDim,
             "kv append: an even head dim of at most 1,024");
  check_that(kv.value_dim > 0 && kv.value_dim <= cpu::kMaxValueDim, "kv append: a value dim in 1..1,024");
  check_view("kv append: q", params.q, num_rows, params.num_q_heads * kv.head_dim);
  check_view("kv append: k", params.k, num_rows, kv.num_kv_heads * kv.head_dim);
  check_page_dims("kv append: pages", kv);
  if (!kv.is_latent) check_view("kv append: v", params.v, num_rows, kv.num_kv_heads * kv.value_dim);
  check_that(params.first_normed_k >= 0 && params.first_normed_k <= kv.head_dim,
             "kv append: normed dims within the head");
  check_view("kv append: q output", params.q_out, num_rows, params.num_q_heads * kv.head_dim);
  check_that(params.rotary_dim >= 0 && params.rotary_dim % 2 == 0 && params.rotary_dim <= kv.head_dim,
             "kv append: an even rotary dim within the head");
  if (params.rotary_dim > 0) check_view("kv append: rope angles", params.rope, num_rows, params.rotary_dim);
}

}  // namespace

void compute_rope_angles(const Execution& execution, std::span<const int32_t> positions,
                         std::span<const double> frequencies, double attention_factor,
                         TensorView<float> cos_sin) {
  const int64_t half = static_cast<int64_t>(frequencies.size());
  check_view("rope angles: output", cos_sin, static_cast<int64_t>(positions.size()), 2 * half);
  for_row_chunks(execution, cos_sin.num_rows, cos_sin.num_cols * 16, [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      float* out = cos_sin.row(row);
      for (int64_t i = 0; i < half; ++i) {
        const double angle = positions[row] * frequencies[i];
        out[i] = static_cast<float>(attention_factor * std::cos(angle));
        out[half + i] = static_cast<float>(attention_factor * std::sin(angle));
      }
    }
  });
}

float query_scale(float scale, float soft_cap) { return soft_cap > 0 ? scale : scale * kLog2E; }

void KvAppendPlan::check(int64_t num_rows, int64_t num_pages) const {
  for (const cpu::KvAppendTask& task : tasks_) {
    const SequenceSlice& each = task.sequence;
    check_that(each.first_row >= 0 && each.count <= num_rows && each.first_row <= num_rows - each.count,
               "kv append: slices within the rows of the step");
    const int32_t page = each.page_table[(each.start + task.first_token) / kPageSize];
    check_that(page >= 0 && page < num_pages, "kv append: pages within the pool");
  }
}

void KvAppendPlan::build(std::span<const SequenceSlice> sequences) {
  tasks_.clear();
  for (const SequenceSlice& each : sequences) {
    check_that(each.count >= 0 && each.start >= 0, "kv append: slices that begin and end at positions");
    for (int64_t token = 0; token < each.count;) {
      const int64_t until_page_end = kPageSize - (each.start + token) % kPageSize;
      const int64_t num_tokens = std::min(until_page_end, each.count - token);
      tasks_.push_back({each, token, num_tokens});
      token += num_tokens;
    }
  }
}

void append_kv(const Execution& execution, const KvAppendPlan& plan, const KvAppendParams& params) {
  check_append(params);
  plan.check(params.q.num_rows, params.kv.num_pages);
  execution.run(static_cast<int64_t>(plan.tasks_.size()),
                [params, of = &plan, kernel = execution.kernels().append_kv](int64_t index, int) {
                  kernel(params, of->tasks_[index]);
                });
}

}  // namespace autoglm
