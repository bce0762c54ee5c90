// Arguments and launch of kv_append.cu.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/attention/page_layout.h"
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kMaxAppendedDim = 576;

// Fields as in KvAppendParams (base/op_params.h), for pages as in page_layout.h. Codes of 8 bits: scale =
// max |x| / 127 for int8 or / 448 for fp8, per token, KV head, and K or V; codes to nearest, ties to even. A
// NaN or an infinity makes the scale not finite.
struct KvAppendArgs {
  const float* q = nullptr;        // [num_rows, num_q_heads * head_dim]
  const float* k = nullptr;        // [num_rows, num_kv_heads * head_dim]
  const float* v = nullptr;        // as k; not read for latent pages
  const float* cos_sin = nullptr;  // [num_rows, rotary_dim]: cos of rotary_dim / 2 angles, then sin
  const int64_t* slots = nullptr;  // [num_rows]: page * 16 + place in the page; negative: nowhere
  const float* q_norm = nullptr;   // optional [head_dim]
  const float* k_norm = nullptr;   // optional [head_dim - first_normed_k]
  const float* q_norm_bias = nullptr;
  const float* k_norm_bias = nullptr;
  Bf16* q_out = nullptr;  // [num_rows, num_q_heads * head_dim]
  uint8_t* pages = nullptr;
  int64_t q_stride = 0;  // floats from one row of q to the next; k and v may lie in the same rows
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  int32_t num_rows = 0;
  int32_t num_q_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;        // a multiple of 16, <= kMaxAppendedDim
  int32_t rotary_dim = 0;      // even, <= head_dim
  int32_t first_normed_k = 0;  // dims of k before this one are not normed
  float qk_norm_epsilon = 0;
  float q_scale = 1;
  NormKind qk_norm_kind = NormKind::rms;
  bool qk_norm_has_unit_offset = false;
  RopeStyle rope_style = RopeStyle::half_split;
  KvType kv_type = KvType::bf16;
  bool is_latent = false;

  constexpr KvLayout layout() const { return {num_kv_heads, head_dim, kv_type, is_latent}; }
  constexpr int num_heads() const { return num_q_heads + (is_latent ? 1 : 2) * num_kv_heads; }
};

LaunchShape kv_append_launch(const KvAppendArgs& args);

}  // namespace autoglm::cuda
