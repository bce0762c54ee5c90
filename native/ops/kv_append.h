// What lies between the q, k, v products and attention: per-head norm, rope, and writing K and V into their
// pages.
#pragma once

#include <span>
#include <vector>

#include "base/op_params.h"
#include "cpu/kernel_table.h"
#include "ops/execution.h"

namespace autoglm {

// cos_sin[r] = attention_factor * {cos(positions[r] * frequencies[i])..., sin(...)...}: once per step and
// rope table, used by every layer. Angles are computed in double. cos_sin is [rows, 2 * frequencies.size()].
void compute_rope_angles(const Execution& execution, std::span<const int32_t> positions,
                         std::span<const double> frequencies, double attention_factor,
                         TensorView<float> cos_sin);

// Factor for KvAppendParams::q_scale: attention works in powers of two, so `scale` (usually head_dim ** -0.5)
// also takes log2(e), except with a soft cap, which needs the plain score.
float query_scale(float scale, float soft_cap);

// How a step's rows are cut in chunks, one for each page that they touch; made once per step and used by
// every layer.
class KvAppendPlan {
 public:
  // `sequences` is copied; the page tables it points to must live as long as the plan is used.
  void build(std::span<const SequenceSlice> sequences);

 private:
  friend void append_kv(const Execution&, const KvAppendPlan&, const KvAppendParams&);
  void check(int64_t num_rows, int64_t num_pages) const;

  std::vector<cpu::KvAppendTask> tasks_;
};

// Throws invalid_parameter for shapes that do not agree and pages that are out of range.
void append_kv(const Execution& execution, const KvAppendPlan& plan, const KvAppendParams& params);

}  // namespace autoglm
