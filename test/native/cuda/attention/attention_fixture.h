// A step of sequences in shuffled pages whose unused slots hold NaN, and float64 attention over plain rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/attention/attention.h"
#include "cuda/attention/page_layout.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {

struct Sequence {
  int64_t start = 0;  // tokens computed by earlier steps
  int64_t count = 0;  // tokens of this step
  int64_t first_row = 0;
  std::vector<float> keys;    // [start + count, kv heads, head_dim], values of bf16
  std::vector<float> values;  // the same
};

// One step: its sequences, pages and queries.
struct Step {
  cuda::AttentionArgs args;
  std::vector<Sequence> sequences;
  std::vector<int32_t> page_tables;
  std::vector<int64_t> table_offsets;
  std::vector<SequenceSlice> slices;
  std::vector<cuda::Bf16> q;
  std::vector<cuda::Bf16> pages;
  std::vector<cuda::Bf16> out;
  int64_t num_rows = 0;
};

struct StepShape {
  int64_t head_dim = 64;
  int64_t num_kv_heads = 1;
  int64_t group = 1;
  float peak = 1;  // magnitude of the queries: large ones let a single key decide
  bool is_causal = true;
  int64_t sliding_window = 0;
  float soft_cap = 0;
};

inline float rounded(float value) { return to_float(to_bf16(value)); }

inline void add_sequence(Step& step, const StepShape& shape, Random& random, int64_t start, int64_t count) {
  Sequence sequence{start, count, step.num_rows, {}, {}};
  const int64_t size = (start + count) * shape.num_kv_heads * shape.head_dim;
  for (int64_t i = 0; i < size; ++i) {
    sequence.keys.push_back(rounded(random.uniform(-1.7f, 1.7f)));
    sequence.values.push_back(rounded(random.uniform(-1.7f, 1.7f)));
  }
  step.num_rows += count;
  step.sequences.push_back(sequence);
}

// Writes the sequences into pages of any order; slots without a token keep a NaN.
inline void fill_pages(Step& step, const StepShape& shape, Random& random) {
  int64_t num_pages = 2;
  for (const Sequence& each : step.sequences) num_pages += (each.start + each.count + 15) / 16;
  const auto head_dim = static_cast<int>(shape.head_dim);
  const auto kv_heads = static_cast<int>(shape.num_kv_heads);
  step.pages.assign(num_pages * cuda::page_elements(kv_heads, head_dim), cuda::Bf16{0xffff});
  std::vector<int32_t> free(num_pages);
  for (int64_t i = 0; i < num_pages; ++i) free[i] = static_cast<int32_t>(i);
  for (const Sequence& each : step.sequences) {
    step.table_offsets.push_back(static_cast<int64_t>(step.page_tables.size()));
    for (int64_t token = 0; token < each.start + each.count; ++token) {
      if (token % 16 == 0) {
        const auto taken = free.begin() + random.below(static_cast<int64_t>(free.size()));
        step.page_tables.push_back(*taken);
        free.erase(taken);
      }
      const int32_t page = step.page_tables.back();
      for (int head = 0; head < kv_heads; ++head) {
        cuda::Bf16* tile = &step.pages[cuda::key_tile_offset(page, head, kv_heads, head_dim)];
        for (int dim = 0; dim < head_dim; ++dim) {
          const int64_t from = (token * kv_heads + head) * head_dim + dim;
          const int offset = cuda::offset_in_tile(static_cast<int>(token % 16), dim, head_dim);
          tile[offset] = to_bf16(each.keys[from]);
          tile[offset + cuda::tile_elements(head_dim)] = to_bf16(each.values[from]);
        }
      }
    }
  }
}

inline void finish_step(Step& step, const StepShape& shape, Random& random) {
  fill_pages(step, shape, random);
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const Sequence& each = step.sequences[i];
    step.slices.push_back({nullptr, each.first_row, each.start, each.count});
  }
  const int64_t width = shape.num_kv_heads * shape.group * shape.head_dim;
  const float scale = shape.peak / std::sqrt(static_cast<float>(shape.head_dim));
  step.q = to_bf16s(random.normals(step.num_rows * width, scale));
  step.out.assign(step.num_rows * width, cuda::Bf16{0xffff});
  cuda::AttentionArgs& args = step.args;
  args.q = step.q.data();
  args.pages = step.pages.data();
  args.page_tables = step.page_tables.data();
  args.out = step.out.data();
  args.num_q_heads = static_cast<int32_t>(shape.num_kv_heads * shape.group);
  args.num_kv_heads = static_cast<int32_t>(shape.num_kv_heads);
  args.head_dim = static_cast<int32_t>(shape.head_dim);
  args.sliding_window = static_cast<int32_t>(shape.sliding_window);
  args.soft_cap = shape.soft_cap;
  args.is_causal = shape.is_causal;
}

// `kernels`: what is launched in place of the decode and the prefill kernel.
struct KernelNames {
  const char* decode = nullptr;
  const char* prefill = nullptr;
};

// False if a ticket is left over, which the next launch would find.
inline bool attend(Step& step, const StepShape& shape, const emulator::Schedule& schedule,
                   const KernelNames& kernels = {}) {
  const cuda::AttentionPlan plan = cuda::plan_attention(step.slices, step.table_offsets, shape.group,
                                                        shape.is_causal, shape.sliding_window);
  std::vector<float> partials(
      plan.num_partials * shape.num_kv_heads * cuda::kDecodePairs * (shape.head_dim + 2), NAN);
  std::vector<uint32_t> tickets(plan.num_partials * shape.num_kv_heads, 0);
  cuda::AttentionArgs args = step.args;
  args.partials = partials.data();
  args.tickets = tickets.data();
  args.work = plan.decode.data();
  args.num_work = static_cast<int32_t>(plan.decode.size());
  cuda::LaunchShape decode = cuda::decode_launch(args);
  if (kernels.decode != nullptr) decode.kernel = kernels.decode;
  launch(decode, args, schedule);
  args.work = plan.prefill.data();
  args.num_work = static_cast<int32_t>(plan.prefill.size());
  cuda::LaunchShape prefill = cuda::prefill_launch(args);
  if (kernels.prefill != nullptr) prefill.kernel = kernels.prefill;
  launch(prefill, args, schedule);
  return std::ranges::count(tickets, 0u) == static_cast<int64_t>(tickets.size());
}

// One query head of one row; scores are exponents of 2, or natural ones below a cap.
inline std::vector<double> expected_row(const Step& step, const StepShape& shape, const Sequence& sequence,
                                        int64_t token, int64_t head) {
  const int64_t position = sequence.start + token;
  const int64_t last = shape.is_causal ? position : sequence.start + sequence.count - 1;
  const int64_t first =
      shape.sliding_window > 0 ? std::max<int64_t>(0, position - shape.sliding_window + 1) : 0;
  const int64_t row = sequence.first_row + token;
  const cuda::Bf16* q = &step.q[(row * step.args.num_q_heads + head) * shape.head_dim];
  const int64_t kv_head = head / shape.group;
  std::vector<double> weights;
  double largest = -INFINITY;
  for (int64_t key = first; key <= last; ++key) {
    double score = 0;
    for (int64_t i = 0; i < shape.head_dim; ++i) {
      score +=
          double{to_float(q[i])} * sequence.keys[(key * shape.num_kv_heads + kv_head) * shape.head_dim + i];
    }
    if (shape.soft_cap > 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap) / std::log(2.0);
    weights.push_back(score);
    largest = std::max(largest, score);
  }
  double sum = 0;
  for (double& each : weights) sum += each = std::exp2(each - largest);
  std::vector<double> out(shape.head_dim);
  for (int64_t key = first; key <= last; ++key) {
    for (int64_t i = 0; i < shape.head_dim; ++i) {
      out[i] += weights[key - first] / sum *
                sequence.values[(key * shape.num_kv_heads + kv_head) * shape.head_dim + i];
    }
  }
  return out;
}

// The largest distance of any row and head: one wrong row of many must not hide in an average.
inline double largest_distance(const Step& step, const StepShape& shape) {
  double largest = 0;
  for (const Sequence& sequence : step.sequences) {
    for (int64_t token = 0; token < sequence.count; ++token) {
      for (int64_t head = 0; head < step.args.num_q_heads; ++head) {
        const int64_t row = sequence.first_row + token;
        std::vector<float> found;
        for (int64_t i = 0; i < shape.head_dim; ++i) {
          found.push_back(to_float(step.out[(row * step.args.num_q_heads + head) * shape.head_dim + i]));
        }
        const double distance = relative_distance(found, expected_row(step, shape, sequence, token, head));
        if (std::isnan(distance)) return INFINITY;
        largest = std::max(largest, distance);
      }
    }
  }
  return largest;
}

}  // namespace autoglm::test
