// A step of sequences in shuffled pages whose unused slots hold NaN, and float64 attention over plain rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/attention/attention.h"
#include "cuda/attention/kv_codes.h"
#include "cuda/attention/page_layout.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {

struct StepShape {
  int64_t head_dim = 64;
  int64_t value_dim = 64;
  int64_t num_kv_heads = 1;
  int64_t group = 1;
  float peak = 1;  // magnitude of the queries: large ones let a single key decide
  bool is_causal = true;
  int64_t sliding_window = 0;
  float soft_cap = 0;
  cuda::KvType kv_type = cuda::KvType::bf16;

  bool is_latent() const { return value_dim != head_dim; }
  int64_t num_q_heads() const { return num_kv_heads * group; }
  cuda::KvLayout layout() const {
    return {static_cast<int32_t>(num_kv_heads), static_cast<int32_t>(head_dim), kv_type, is_latent()};
  }
};

// Rows of K or V as they are stored: value = scale * the code's number, scale 1 for bf16.
struct StoredRows {
  std::vector<uint16_t> codes;  // [tokens, kv heads, head_dim]
  std::vector<float> scales;    // [tokens, kv heads]
  std::vector<double> values;   // as codes
};

struct Sequence {
  int64_t start = 0;  // tokens computed by earlier steps
  int64_t count = 0;  // tokens of this step
  int64_t first_row = 0;
  StoredRows keys;
  StoredRows values;  // none of latents
};

// One step: its sequences, pages and queries.
struct Step {
  cuda::AttentionArgs args;
  std::vector<Sequence> sequences;
  std::vector<int32_t> page_tables;
  std::vector<int64_t> table_offsets;
  std::vector<SequenceSlice> slices;
  std::vector<cuda::Bf16> q;
  std::vector<uint8_t> pages;
  std::vector<cuda::Bf16> out;
  int64_t num_rows = 0;
};

// By the definition of the format: 4 bits of exponent, 3 of mantissa.
inline double value_of_e4m3(int code) {
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return NAN;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

inline StoredRows random_rows(const StepShape& shape, Random& random, int64_t num_heads) {
  StoredRows rows;
  for (int64_t i = 0; i < num_heads; ++i) {
    const bool has_scale = shape.kv_type != cuda::KvType::bf16;
    const float largest = shape.kv_type == cuda::KvType::int8 ? 127.0f : 448.0f;
    rows.scales.push_back(has_scale ? random.uniform(0.5f, 1.7f) / largest : 1.0f);
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      const float value = random.uniform(-1.7f, 1.7f);
      double stored = 0;
      if (shape.kv_type == cuda::KvType::bf16) {
        rows.codes.push_back(to_bf16(value).bits);
        stored = to_float(to_bf16(value));
      } else if (shape.kv_type == cuda::KvType::int8) {
        stored = static_cast<double>(random.below(256) - 128);
        rows.codes.push_back(static_cast<uint8_t>(static_cast<int8_t>(stored)));
      } else {
        rows.codes.push_back(cuda::e4m3_of_bits(std::bit_cast<uint32_t>(value * 260)));
        stored = value_of_e4m3(rows.codes.back());
      }
      rows.values.push_back(stored * rows.scales.back());
    }
  }
  return rows;
}

inline void add_sequence(Step& step, const StepShape& shape, Random& random, int64_t start, int64_t count) {
  Sequence sequence{start, count, step.num_rows, {}, {}};
  const int64_t num_heads = (start + count) * shape.num_kv_heads;
  sequence.keys = random_rows(shape, random, num_heads);
  if (!shape.is_latent()) sequence.values = random_rows(shape, random, num_heads);
  step.num_rows += count;
  step.sequences.push_back(sequence);
}

// Writes head `index` of `rows` into `slot` of a tile, and its scale.
inline void store_row(const cuda::KvLayout& layout, const StoredRows& rows, int64_t index, int slot,
                      uint8_t* tile, uint8_t* scales) {
  const int size = cuda::element_bytes(layout.type);
  for (int dim = 0; dim < layout.head_dim; ++dim) {
    std::memcpy(tile + layout.offset_in_tile(slot, dim), &rows.codes[index * layout.head_dim + dim], size);
  }
  if (cuda::has_scales(layout.type)) std::memcpy(scales + slot * 4, &rows.scales[index], 4);
}

// Writes the sequences into pages of any order; slots without a token keep bytes that are NaN, or -1 as int8.
inline void fill_pages(Step& step, const StepShape& shape, Random& random) {
  int64_t num_pages = 2;
  for (const Sequence& each : step.sequences) num_pages += (each.start + each.count + 15) / 16;
  const cuda::KvLayout layout = shape.layout();
  step.pages.assign(num_pages * layout.page_bytes(), 0xff);
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
      for (int head = 0; head < layout.num_kv_heads; ++head) {
        uint8_t* place = &step.pages[layout.head_offset(step.page_tables.back(), head)];
        const int64_t index = token * layout.num_kv_heads + head;
        const auto slot = static_cast<int>(token % 16);
        store_row(layout, each.keys, index, slot, place, place + layout.key_scale_offset());
        if (layout.is_latent) continue;
        store_row(layout, each.values, index, slot, place + layout.value_offset(),
                  place + layout.value_scale_offset());
      }
    }
  }
}

inline void point_at_buffers(Step& step) {
  step.args.q = step.q.data();
  step.args.pages = step.pages.data();
  step.args.page_tables = step.page_tables.data();
  step.args.out = step.out.data();
}

inline void finish_step(Step& step, const StepShape& shape, Random& random) {
  fill_pages(step, shape, random);
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const Sequence& each = step.sequences[i];
    step.slices.push_back({nullptr, each.first_row, each.start, each.count});
  }
  const float scale = shape.peak / std::sqrt(static_cast<float>(shape.head_dim));
  step.q = to_bf16s(random.normals(step.num_rows * shape.num_q_heads() * shape.head_dim, scale));
  step.out.assign(step.num_rows * shape.num_q_heads() * shape.value_dim, cuda::Bf16{0xffff});
  step.args = {.num_q_heads = static_cast<int32_t>(shape.num_q_heads()),
               .num_kv_heads = static_cast<int32_t>(shape.num_kv_heads),
               .head_dim = static_cast<int32_t>(shape.head_dim),
               .value_dim = static_cast<int32_t>(shape.value_dim),
               .sliding_window = static_cast<int32_t>(shape.sliding_window),
               .soft_cap = shape.soft_cap,
               .kv_type = shape.kv_type,
               .is_latent = shape.is_latent(),
               .is_causal = shape.is_causal};
  point_at_buffers(step);
}

// `kernels`: what is launched in place of the decode and the prefill kernel.
struct KernelNames {
  const char* decode = nullptr;
  const char* prefill = nullptr;
};

inline cuda::AttentionPlan plan_of(const Step& step, const StepShape& shape) {
  return cuda::plan_attention(step.slices, step.table_offsets,
                              {.heads_per_group = shape.group,
                               .prefill_pairs = cuda::prefill_pairs(shape.head_dim, shape.is_latent()),
                               .is_causal = shape.is_causal,
                               .sliding_window = shape.sliding_window});
}

// False if a ticket is left over, which the next launch would find. `num_idle`: blocks without work in either
// grid.
inline bool attend(Step& step, const StepShape& shape, const emulator::Schedule& schedule,
                   const KernelNames& kernels = {}, size_t num_idle = 0) {
  cuda::AttentionPlan plan = plan_of(step, shape);
  plan.decode.resize(plan.decode.size() + num_idle);
  plan.prefill.resize(plan.prefill.size() + num_idle);
  std::vector<float> partials(
      plan.num_partials * shape.num_kv_heads * cuda::kDecodePairs * (shape.value_dim + 2), NAN);
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
  std::vector<double> q(shape.head_dim);
  for (int64_t i = 0; i < shape.head_dim; ++i) {
    const int64_t row = sequence.first_row + token;
    q[i] = to_float(step.q[(row * shape.num_q_heads() + head) * shape.head_dim + i]);
  }
  const auto head_of_key = [&](const std::vector<double>& values, int64_t key) {
    return &values[(key * shape.num_kv_heads + head / shape.group) * shape.head_dim];
  };
  std::vector<double> weights;
  double largest = -INFINITY;
  for (int64_t key = first; key <= last; ++key) {
    const double* k = head_of_key(sequence.keys.values, key);
    double score = 0;
    for (int64_t i = 0; i < shape.head_dim; ++i) score += q[i] * k[i];
    if (shape.soft_cap > 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap) / std::log(2.0);
    weights.push_back(score);
    largest = std::max(largest, score);
  }
  double sum = 0;
  for (double& each : weights) sum += each = std::exp2(each - largest);
  std::vector<double> out(shape.value_dim);
  for (int64_t key = first; key <= last; ++key) {
    const double* v = shape.is_latent()
                          ? head_of_key(sequence.keys.values, key) + shape.head_dim - shape.value_dim
                          : head_of_key(sequence.values.values, key);
    const double weight = weights[key - first] / sum;
    for (int64_t i = 0; i < shape.value_dim; ++i) out[i] += weight * v[i];
  }
  return out;
}

// The largest distance of any row and head: one wrong row of many must not hide in an average.
inline double largest_distance(const Step& step, const StepShape& shape) {
  double largest = 0;
  for (const Sequence& sequence : step.sequences) {
    for (int64_t token = 0; token < sequence.count; ++token) {
      for (int64_t head = 0; head < shape.num_q_heads(); ++head) {
        const int64_t row = sequence.first_row + token;
        std::vector<float> found;
        for (int64_t i = 0; i < shape.value_dim; ++i) {
          found.push_back(to_float(step.out[(row * shape.num_q_heads() + head) * shape.value_dim + i]));
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
