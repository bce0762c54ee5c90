// Per-head norm and rope of q and k, and writing K and V into their page. Contract: KvAppendParams in
// base/op_params.h. A task covers one page of one slice, so nobody else writes to that page while it is
// zeroed and filled.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/norm_kernel.h"

namespace autoglm::cpu {
namespace {

constexpr int kMaxHeadDim = 1024;

// Rounds to nearest, ties to even; NaNs stay NaNs.
inline uint16_t to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Rotates the pairs (first[i], second[i]) in place, `stride` apart.
inline void rotate(float* first, float* second, int64_t stride, int64_t count, const float* cosines,
                   const float* sines) {
  for (int64_t i = 0; i < count; ++i) {
    const float a = first[i * stride];
    const float b = second[i * stride];
    first[i * stride] = a * cosines[i] - b * sines[i];
    second[i * stride] = b * cosines[i] + a * sines[i];
  }
}

template <typename S>
inline void rotate_half_split(float* head, int64_t half, const float* cosines, const float* sines) {
  int64_t i = 0;
  for (; i + S::kWidth <= half; i += S::kWidth) {
    const auto a = S::load(head + i);
    const auto b = S::load(head + half + i);
    const auto cosine = S::load(cosines + i);
    const auto sine = S::load(sines + i);
    S::store(head + i, S::sub(S::mul(a, cosine), S::mul(b, sine)));
    S::store(head + half + i, S::add(S::mul(b, cosine), S::mul(a, sine)));
  }
  rotate(head + i, head + half + i, 1, half - i, cosines + i, sines + i);
}

// out = rope(norm(in)) of one head at row `row`; dims before `first_normed` are not normed.
template <typename S>
inline void prepare_head(const KvAppendParams& params, const float* in, const float* weight,
                         const float* bias, int64_t first_normed, int64_t row, float* out) {
  const int64_t head_dim = params.kv.head_dim;
  const int64_t num_plain = weight == nullptr ? head_dim : first_normed;
  __builtin_memcpy(out, in, num_plain * sizeof(float));
  if (num_plain < head_dim) {
    const int64_t num_normed = head_dim - num_plain;
    NormParams norm;
    norm.weight = weight;
    norm.bias = bias;
    norm.has_unit_offset = params.qk_norm_has_unit_offset;
    const RowStatistics statistics =
        row_statistics<S>(params.qk_norm_kind, params.qk_norm_epsilon, in + num_plain, num_normed);
    for (int64_t col = 0; col < num_normed; col += kBlockCols) {
      const int count = static_cast<int>(num_normed - col < kBlockCols ? num_normed - col : kBlockCols);
      norm_block<S>(norm, statistics, in + num_plain, col, count, out + num_plain + col);
    }
  }
  const int64_t half = params.rotary_dim / 2;
  if (half == 0) return;
  const float* cosines = params.rope.data + row * params.rope.row_stride;
  if (params.rope_style == RopeStyle::half_split) {
    rotate_half_split<S>(out, half, cosines, cosines + half);
  } else {
    rotate(out, out + 1, 2, half, cosines, cosines + half);
  }
}

inline void write_key(const KvPages& kv, const float* head, int64_t slot, std::byte* keys) {
  if (kv.dtype == KvDtype::f32) {
    float* to = reinterpret_cast<float*>(keys) + slot;
    for (int64_t i = 0; i < kv.head_dim; ++i) to[i * kPageSize] = head[i];
    return;
  }
  uint32_t* to = reinterpret_cast<uint32_t*>(keys) + slot;
  for (int64_t pair = 0; pair < kv.head_dim / 2; ++pair) {
    to[pair * kPageSize] = to_bf16(head[2 * pair]) | uint32_t{to_bf16(head[2 * pair + 1])} << 16;
  }
}

inline void write_value(const KvPages& kv, const float* head, int64_t count, int64_t slot,
                        std::byte* values) {
  const int64_t stride = kv.stored_dims();
  if (kv.dtype == KvDtype::f32) {
    __builtin_memcpy(reinterpret_cast<float*>(values) + slot * stride, head, count * sizeof(float));
    return;
  }
  uint16_t* to = reinterpret_cast<uint16_t*>(values) + slot / 2 * stride * 2 + slot % 2;
  for (int64_t i = 0; i < count; ++i) to[2 * i] = to_bf16(head[i]);
}

template <typename S>
void append_kv(const KvAppendParams& params, const KvAppendTask& task) {
  const KvPages& kv = params.kv;
  const int64_t first_position = task.sequence.start + task.first_token;
  std::byte* page = kv.data + task.sequence.page_table[first_position / kPageSize] * kv.page_stride;
  if (first_position % kPageSize == 0) __builtin_memset(page, 0, kv.page_bytes());
  alignas(64) float head[kMaxHeadDim + kBlockCols];  // norm_block stores whole vectors
  const typename S::Float q_scale = S::broadcast(params.q_scale);
  for (int64_t token = task.first_token; token < task.first_token + task.num_tokens; ++token) {
    const int64_t row = task.sequence.first_row + token;
    const int64_t slot = (task.sequence.start + token) % kPageSize;
    for (int64_t h = 0; h < params.num_q_heads; ++h) {
      const float* in = params.q.data + row * params.q.row_stride + h * kv.head_dim;
      float* out = params.q_out.data + row * params.q_out.row_stride + h * kv.head_dim;
      prepare_head<S>(params, in, params.q_norm, params.q_norm_bias, 0, row, head);
      for (int64_t i = 0; i < kv.head_dim; i += S::kWidth) {
        const int lanes = static_cast<int>(kv.head_dim - i < S::kWidth ? kv.head_dim - i : S::kWidth);
        S::store_first(out + i, S::mul(S::load(head + i), q_scale), lanes);
      }
    }
    for (int64_t h = 0; h < kv.num_kv_heads; ++h) {
      std::byte* keys = page + h * kv.head_bytes();
      const float* k = params.k.data + row * params.k.row_stride + h * kv.head_dim;
      prepare_head<S>(params, k, params.k_norm, params.k_norm_bias, params.first_normed_k, row, head);
      if (kv.is_latent) {
        write_value(kv, head, kv.head_dim, slot, keys);
        continue;
      }
      write_key(kv, head, slot, keys);
      write_value(kv, params.v.data + row * params.v.row_stride + h * kv.value_dim, kv.value_dim, slot,
                  keys + kv.key_bytes());
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
