// A small KV pool with shuffled pages, and a float64 reference of attention that reads plain rows of K and V.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/op_params.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {

struct AttentionShape {
  int64_t num_q_heads = 3;
  int64_t num_kv_heads = 1;
  int64_t head_dim = 64;
  int64_t value_dim = 64;
  KvDtype dtype = KvDtype::bf16;
  bool is_causal = true;
  int64_t sliding_window = 0;
  float soft_cap = 0;
  float scale = 0.125f;
  bool is_latent = false;
};

class KvPool {
 public:
  KvPool(const AttentionShape& shape, int64_t num_pages) : memory_(num_pages * stride(shape)) {
    pages_.dtype = shape.dtype;
    pages_.num_kv_heads = shape.num_kv_heads;
    pages_.head_dim = shape.head_dim;
    pages_.value_dim = shape.value_dim;
    pages_.is_latent = shape.is_latent;
    pages_.data = memory_.bytes().data();
    pages_.page_stride = stride(shape);
    pages_.num_pages = num_pages;
    // What an earlier owner left behind: every byte pattern reads as a NaN.
    std::fill(memory_.bytes().begin(), memory_.bytes().end(), std::byte{0xff});
  }

  // Page ids for `num_tokens` tokens, in an order that is not ascending.
  std::vector<int32_t> take(Random& random, int64_t num_tokens) {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < (num_tokens + kPageSize - 1) / kPageSize; ++i) {
      if (free_.empty()) {
        for (int64_t page = 0; page < pages_.num_pages; ++page) free_.push_back(static_cast<int32_t>(page));
      }
      const auto at = free_.begin() + random.below(static_cast<int64_t>(free_.size()));
      out.push_back(*at);
      free_.erase(at);
    }
    return out;
  }

  const KvPages& pages() const { return pages_; }

 private:
  static int64_t stride(const AttentionShape& shape) {
    KvPages pages;
    pages.dtype = shape.dtype;
    pages.num_kv_heads = shape.num_kv_heads;
    pages.head_dim = shape.head_dim;
    pages.value_dim = shape.value_dim;
    pages.is_latent = shape.is_latent;
    return (pages.page_bytes() + 63) / 64 * 64;
  }

  AlignedBytes memory_;
  KvPages pages_;
  std::vector<int32_t> free_;
};

// Nearest bfloat16, through integers that leave no doubt about ties.
inline float to_bf16_value(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t rest = bits & 0xffff;
  bits &= 0xffff0000;
  if (rest > 0x8000 || (rest == 0x8000 && (bits >> 16 & 1) != 0)) bits += 0x10000;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Integers of magnitudes up to `limit` times one scale, as int8 pages and their queries round a head.
inline std::vector<float> to_integers(const float* head, int64_t count, float limit) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(head[i]));
  std::vector<float> out(head, head + count);
  for (float& each : out) each = std::nearbyint(each * (limit / largest)) * (largest / limit);
  return out;
}

// One head of one token of K or V as pages of `dtype` keep it.
inline std::vector<float> as_stored(KvDtype dtype, const float* head, int64_t count) {
  if (dtype == KvDtype::int8) return to_integers(head, count, 127);
  std::vector<float> out(head, head + count);
  if (dtype == KvDtype::bf16) std::ranges::transform(out, out.begin(), to_bf16_value);
  return out;
}

// Attention of one query head at `position` over k[token][head_dim], v[token][value_dim], already as stored.
inline std::vector<double> reference_attention(const AttentionShape& shape, const float* q, int64_t position,
                                               const std::vector<float>& k, const std::vector<float>& v,
                                               int64_t num_tokens) {
  const int64_t last = shape.is_causal ? position : num_tokens - 1;
  const int64_t first =
      shape.sliding_window > 0 ? std::max<int64_t>(0, position - shape.sliding_window + 1) : 0;
  std::vector<float> query(q, q + shape.head_dim);
  if (shape.dtype == KvDtype::int8) query = to_integers(q, shape.head_dim, 16383);
  std::vector<double> scores;
  double largest = -INFINITY;
  for (int64_t token = first; token <= last; ++token) {
    double score = 0;
    for (int64_t i = 0; i < shape.head_dim; ++i) score += double{query[i]} * k[token * shape.head_dim + i];
    score *= shape.scale;
    if (shape.soft_cap > 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
    scores.push_back(score);
    largest = std::max(largest, score);
  }
  std::vector<double> out(shape.value_dim, 0.0);
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (int64_t token = first; token <= last; ++token) {
    for (int64_t i = 0; i < shape.value_dim; ++i) {
      out[i] += scores[token - first] / sum * v[token * shape.value_dim + i];
    }
  }
  return out;
}

}  // namespace autoglm::test
