// Arguments and launch of kv_append.cu.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Fields as in KvAppendParams (base/op_params.h), for pages as in page_layout.h.
struct KvAppendArgs {
  const float* q = nullptr;        // [num_rows, num_q_heads * head_dim]
  const float* k = nullptr;        // [num_rows, num_kv_heads * head_dim]
  const float* v = nullptr;        // [num_rows, num_kv_heads * head_dim]
  const float* cos_sin = nullptr;  // [num_rows, rotary_dim]: cos of rotary_dim / 2 angles, then sin
  const int64_t* slots = nullptr;  // [num_rows]: page * 16 + place in the page; negative: nowhere
  const float* q_norm = nullptr;   // optional [head_dim]
  const float* k_norm = nullptr;   // optional [head_dim]
  const float* q_norm_bias = nullptr;
  const float* k_norm_bias = nullptr;
  Bf16* q_out = nullptr;  // [num_rows, num_q_heads * head_dim]
  Bf16* pages = nullptr;
  int64_t q_stride = 0;  // floats from one row of q to the next; k and v may lie in the same rows
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  int32_t num_rows = 0;
  int32_t num_q_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;    // a multiple of 16, <= 256
  int32_t rotary_dim = 0;  // even, <= head_dim
  float qk_norm_epsilon = 0;
  float q_scale = 1;
  NormKind qk_norm_kind = NormKind::rms;
  bool qk_norm_has_unit_offset = false;
  RopeStyle rope_style = RopeStyle::half_split;
};

LaunchShape kv_append_launch(const KvAppendArgs& args);

}  // namespace autoglm::cuda
