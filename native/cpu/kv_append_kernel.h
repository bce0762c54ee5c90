// Per-head norm and rope of q and k, and writing K and V into their page. Contract: KvAppendParams in
// base/op_params.h. A task covers one page of one slice, so nobody else writes to that page while it is
// zeroed and filled.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/norm_kernel.h"

namespace autoglm::cpu {
namespace {

constexpr int kMaxHeadDim = 1024;
constexpr float kMaxQuery = 16383;  // kMaxHeadDim * 127 * this < 2^31

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

// One head on its way out; all of it has room for whole vectors.
struct PreparedHead {
  alignas(64) float values[kMaxHeadDim + kBlockCols];
  alignas(64) int32_t integers[kMaxHeadDim + kBlockCols];  // int8 pages only
};

// integers[i] = values[i] / scale, rounded to nearest, zeros behind them. The largest magnitude becomes
// `limit`. Returns the scale, which is not finite where a value is not.
template <typename S>
inline float quantize_head(PreparedHead& head, int64_t count, float limit) {
  for (int64_t i = count; i < count + kBlockCols / 2; ++i) head.values[i] = 0;
  // The largest magnitude by its bits: as an integer a NaN beats everything.
  typename S::Int most = S::broadcast_int(0);
  for (int64_t i = 0; i < count; i += S::kWidth) {
    most = S::max_int(most, S::bits_of(S::abs(S::load(head.values + i))));
  }
  const float largest = __builtin_bit_cast(float, S::reduce_max_int(most));
  const typename S::Float inverse = S::broadcast(largest > 0 ? limit / largest : 0.0f);
  for (int64_t i = 0; i < count + 2; i += S::kWidth) {
    // Clamped, since the factor may round up or, for subnormal heads, overflow.
    typename S::Float scaled = S::mul(S::load(head.values + i), inverse);
    scaled = S::min(S::max(scaled, S::broadcast(-limit)), S::broadcast(limit));
    S::store_int(head.integers + i, S::to_int(scaled));
  }
  return largest / limit;
}

template <typename S>
inline void write_query(const KvAppendParams& params, PreparedHead& head, float* out) {
  const int64_t head_dim = params.kv.head_dim;
  const typename S::Float scale = S::broadcast(params.q_scale);
  for (int64_t i = 0; i < head_dim; i += S::kWidth) {
    S::store(head.values + i, S::mul(S::load(head.values + i), scale));
  }
  if (params.kv.dtype != KvDtype::int8) {
    __builtin_memcpy(out, head.values, head_dim * sizeof(float));
    return;
  }
  const float int_scale = quantize_head<S>(head, head_dim, kMaxQuery);
  const int64_t num_words = params.kv.key_dims() / 2;
  const int32_t* in = head.integers;
  auto* words = reinterpret_cast<int32_t*>(out);
  for (int64_t i = 0; i < num_words; i += 2) {
    words[i] = (in[2 * i] & 0xffff) | in[2 * i + 2] * 0x10000;
    words[i + 1] = (in[2 * i + 1] & 0xffff) | in[2 * i + 3] * 0x10000;
  }
  out[num_words] = int_scale;
}

template <typename S>
inline void write_key(const KvPages& kv, PreparedHead& head, int64_t slot, std::byte* keys) {
  switch (kv.dtype) {
    case KvDtype::f32: {
      float* to = reinterpret_cast<float*>(keys) + slot;
      for (int64_t i = 0; i < kv.head_dim; ++i) to[i * kPageSize] = head.values[i];
      return;
    }
    case KvDtype::bf16: {
      uint32_t* to = reinterpret_cast<uint32_t*>(keys) + slot;
      for (int64_t pair = 0; pair < kv.head_dim / 2; ++pair) {
        to[pair * kPageSize] = to_bf16(head.values[2 * pair]) | uint32_t{to_bf16(head.values[2 * pair + 1])}
                                                                    << 16;
      }
      return;
    }
    case KvDtype::int8: {
      kv.key_scales(keys)[slot] = quantize_head<S>(head, kv.head_dim, kMaxInt8);
      int8_t* to = reinterpret_cast<int8_t*>(keys) + slot * 4;
      for (int64_t quad = 0; quad < kv.key_dims() / 4; ++quad) {
        for (int64_t i = 0; i < 4; ++i) {
          to[quad * kPageSize * 4 + i] = static_cast<int8_t>(head.integers[4 * quad + i]);
        }
      }
      return;
    }
    case KvDtype::fp8:
      return;  // refused by ops/check.h
  }
}

// The values of one token: of V, or of a latent.
template <typename S>
inline void write_value(const KvPages& kv, PreparedHead& head, int64_t count, int64_t slot, std::byte* keys) {
  std::byte* values = keys + kv.key_bytes();
  const int64_t stride = kv.stored_dims();
  switch (kv.dtype) {
    case KvDtype::f32:
      __builtin_memcpy(reinterpret_cast<float*>(values) + slot * stride, head.values, count * sizeof(float));
      return;
    case KvDtype::bf16: {
      uint16_t* to = reinterpret_cast<uint16_t*>(values) + slot / 2 * stride * 2 + slot % 2;
      for (int64_t i = 0; i < count; ++i) to[2 * i] = to_bf16(head.values[i]);
      return;
    }
    case KvDtype::int8: {
      kv.value_scales(keys)[slot] = quantize_head<S>(head, count, kMaxInt8);
      const int64_t quad = slot % 8 / 2;
      int8_t* to = reinterpret_cast<int8_t*>(values) + quad * stride * 4 + slot / 8 * 2 + slot % 2;
      for (int64_t i = 0; i < count; ++i) to[4 * i] = static_cast<int8_t>(head.integers[i]);
      return;
    }
    case KvDtype::fp8:
      return;  // refused by ops/check.h
  }
}

template <typename S>
void append_kv(const KvAppendParams& params, const KvAppendTask& task) {
  const KvPages& kv = params.kv;
  const int64_t first_position = task.sequence.start + task.first_token;
  std::byte* page = kv.data + task.sequence.page_table[first_position / kPageSize] * kv.page_stride;
  if (first_position % kPageSize == 0) __builtin_memset(page, 0, kv.page_bytes());
  PreparedHead head;
  for (int64_t token = task.first_token; token < task.first_token + task.num_tokens; ++token) {
    const int64_t row = task.sequence.first_row + token;
    const int64_t slot = (task.sequence.start + token) % kPageSize;
    for (int64_t h = 0; h < params.num_q_heads; ++h) {
      const float* in = params.q.data + row * params.q.row_stride + h * kv.head_dim;
      prepare_head<S>(params, in, params.q_norm, params.q_norm_bias, 0, row, head.values);
      write_query<S>(params, head, params.q_out.data + row * params.q_out.row_stride + h * kv.head_dim);
    }
    for (int64_t h = 0; h < kv.num_kv_heads; ++h) {
      std::byte* keys = page + h * kv.head_bytes();
      const float* k = params.k.data + row * params.k.row_stride + h * kv.head_dim;
      prepare_head<S>(params, k, params.k_norm, params.k_norm_bias, params.first_normed_k, row, head.values);
      if (kv.is_latent) {
        write_value<S>(kv, head, kv.head_dim, slot, keys);
        continue;
      }
      write_key<S>(kv, head, slot, keys);
      const float* v = params.v.data + row * params.v.row_stride + h * kv.value_dim;
      __builtin_memcpy(head.values, v, kv.value_dim * sizeof(float));
      write_value<S>(kv, head, kv.value_dim, slot, keys);
    }
  }
}

}  // namespace
}  // namespace autoglm::cpu
