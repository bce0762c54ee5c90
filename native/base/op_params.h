// The arguments of every operation: checked once by ops/, then trusted by the kernels of cpu/.
// Rows are the token positions of a step; "optional" views have null data when absent. No output overlaps an
// input, so that any chunk of a stage could run again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/formats.h"
#include "base/packed_matrix.h"
#include "base/tensor_view.h"

namespace autoglm {

// Scale and sums of 32 int8 activations.
struct ActivationGroup {
  float scale;               // value = scale * int8
  float scaled_sum;          // scale * sum of the 32 int8
  int32_t negative_low_sum;  // -(sum of the first 16)
  int32_t negative_sum;      // -(sum of all 32)
};

// Activations as int8, rounded to nearest with one scale per group of 32 columns: scale = max |x| / c, where
// c is 127, or after norms the one of 127, 124, 121 and 118 that leaves the least squared error. A group with
// a NaN or an infinity gets a scale that is not finite, so that products show it.
struct QuantizedRows {
  int8_t* values = nullptr;           // [num_rows, num_cols], 64-byte aligned
  ActivationGroup* groups = nullptr;  // [num_rows, num_cols / 32]
  int64_t num_rows = 0;
  int64_t num_cols = 0;    // a multiple of 32
  int64_t row_stride = 0;  // columns from one row to the next, a multiple of 32: num_cols unless only read

  bool is_present() const { return values != nullptr; }
  QuantizedRows rows(int64_t first, int64_t count) const {
    const int64_t skipped = first * row_stride;
    return {values + skipped, groups + skipped / kGroup, count, num_cols, row_stride};
  }
  // Columns [first, first + count) of every row, both multiples of 32: for products to read.
  QuantizedRows columns(int64_t first, int64_t count) const {
    return {values + first, groups + first / kGroup, num_rows, count, row_stride};
  }
};

// out[r] = scale * table[ids[r]] (+ positions[position_ids[r]]) (+ types[type_ids[r]]). ids are trusted to be
// in 0..table.n-1.
struct EmbeddingParams {
  PackedMatrix table;            // [vocab, hidden]
  const int32_t* ids = nullptr;  // [rows]
  float scale = 1;
  PackedMatrix positions;                 // optional [positions, hidden]
  const int32_t* position_ids = nullptr;  // [rows] when `positions` is present
  PackedMatrix types;                     // optional [token types, hidden]
  const int32_t* type_ids = nullptr;      // [rows] when `types` is present
  TensorView<float> out;                  // [rows, hidden]
};

// y = norm(in[input_rows[r]]); out[r] = residual[r] + residual_scale * y, without residual y itself.
// rms: x * rsqrt(mean(x^2) + epsilon) * w. layer: (x - mean) * rsqrt(variance + epsilon) * w + b.
// At least one of `out` and `quantized` is present; both hold the same values.
struct NormParams {
  NormKind kind = NormKind::rms;
  float epsilon = 0;
  bool has_unit_offset = false;         // multiplies by w + 1
  TensorView<const float> in;           // [>= rows, cols]
  const int32_t* input_rows = nullptr;  // optional [rows]: gathers; null reads row r for output row r
  const float* weight = nullptr;        // [cols]
  const float* bias = nullptr;          // optional [cols], layer only
  TensorView<const float> residual;     // optional [rows, cols]
  float residual_scale = 1;
  TensorView<float> out;    // optional [rows, cols]
  QuantizedRows quantized;  // optional [rows, cols]; cols % 32 == 0
};

// out[r, i] = residual[r, i] + scale * (sum over k of w[i, k] * in[r, k] + bias[i]); residual optional.
// One float accumulation chain per output, k ascending (int8: groups of 32 ascending), whatever the number of
// rows.
struct MatmulParams {
  PackedMatrix weights;              // [n, k]
  TensorView<const float> in;        // [rows, k], unless weights.takes_int8()
  QuantizedRows quantized;           // [rows, k], if weights.takes_int8()
  const float* bias = nullptr;       // optional [n]
  TensorView<const float> residual;  // optional [rows, n]
  float scale = 1;
  TensorView<float> out;  // [rows, n]
};

// out = act(gate) * up, or act(up) when `gate` is absent.
struct ActivationParams {
  Activation activation = Activation::silu;
  TensorView<const float> gate;  // optional [rows, cols]
  TensorView<const float> up;    // [rows, cols]
  TensorView<float> out;         // optional [rows, cols]
  QuantizedRows quantized;       // optional [rows, cols]; cols % 32 == 0
};

// One layer's part of the KV pool. A page holds 16 token slots for every KV head. Per head, K then V:
//   bf16   K [head_dim / 2][16 slots][2], V [8 slot pairs][value_dim padded][2 slots]
//   f32    K [head_dim][16 slots],        V [16 slots][value_dim padded]
//   int8   K [head_dim / 4][16 slots][4], V [4 slot quads][value_dim padded][4 slots], and 16 float scales of
//          each: value = scale * int8. Quad g of V holds slots 2g, 2g + 1, 2g + 8 and 2g + 9.
// head_dim is padded to whole lanes of 4 bytes and value_dim to a multiple of 16, with zeros. A latent page
// holds each token once, as V of head_dim dims does: its last value_dim dims are the value, too; both dims
// are multiples of 16 then, and int8 does not apply. A page is zeroed when its slot 0 is written: slots that
// hold no token must be finite, because attention multiplies them by zero.
inline constexpr int64_t kPageSize = 16;  // tokens

struct KvPages {
  KvDtype dtype = KvDtype::bf16;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;  // even
  int64_t value_dim = 0;
  bool is_latent = false;
  std::byte* data = nullptr;  // page 0 of this layer, 64-byte aligned
  int64_t page_stride = 0;    // bytes from one page to the next, >= page_bytes(), a multiple of 64
  int64_t num_pages = 0;

  int64_t padded_value_dim() const { return (value_dim + 15) / 16 * 16; }
  // Dims of one token in K.
  int64_t key_dims() const {
    const int64_t lane_dims = 4 / bytes_of(dtype);
    return (head_dim + lane_dims - 1) / lane_dims * lane_dims;
  }
  int64_t key_bytes() const { return is_latent ? 0 : kPageSize * key_dims() * bytes_of(dtype); }
  // Dims of one token in V.
  int64_t stored_dims() const { return is_latent ? head_dim : padded_value_dim(); }
  int64_t value_bytes() const { return kPageSize * stored_dims() * bytes_of(dtype); }
  int64_t head_bytes() const {
    return key_bytes() + value_bytes() + 2 * kPageSize * info_of(dtype).scale_bytes;
  }
  int64_t page_bytes() const { return num_kv_heads * head_bytes(); }
  std::byte* keys(int64_t page, int64_t kv_head) const {
    return data + page * page_stride + kv_head * head_bytes();
  }
  std::byte* values(int64_t page, int64_t kv_head) const { return keys(page, kv_head) + key_bytes(); }
  // int8 only; `keys` is where the page's keys begin.
  template <typename Byte>
  auto* key_scales(Byte* keys) const {
    using Scale = std::conditional_t<std::is_const_v<Byte>, const float, float>;
    return reinterpret_cast<Scale*>(keys + key_bytes() + value_bytes());
  }
  template <typename Byte>
  auto* value_scales(Byte* keys) const {
    return key_scales(keys) + kPageSize;
  }
};

// Positions [start, start + count) of one running request; they are rows [first_row, first_row + count) of
// the step.
struct SequenceSlice {
  const int32_t* page_table = nullptr;  // page of tokens 16 i .. 16 i + 15; covers start + count tokens
  int64_t first_row = 0;
  int64_t start = 0;
  int64_t count = 0;
};

// Prepares attention: adds nothing to v; norms q and k per head, rotates them, scales q, and writes k and v
// to their pages. q_out[r, h] = q_scale * rope(norm(q[r, h])); for int8 pages it is 16-bit integers and a
// scale in the same memory: two 32-bit words for four dims, 4i and 4i + 2, then 4i + 1 and 4i + 3, and the
// scale behind the last word. That takes head_dim >= 4.
struct KvAppendParams {
  TensorView<const float> q;  // [rows, num_q_heads * head_dim]
  TensorView<const float> k;  // [rows, num_kv_heads * head_dim]
  TensorView<const float> v;  // [rows, num_kv_heads * value_dim]; absent for latent pages
  int64_t num_q_heads = 0;
  NormKind qk_norm_kind = NormKind::rms;
  float qk_norm_epsilon = 0;
  bool qk_norm_has_unit_offset = false;
  const float* q_norm = nullptr;       // optional [head_dim]
  const float* q_norm_bias = nullptr;  // optional [head_dim]
  int64_t first_normed_k = 0;          // dims of k before this one are not normed
  const float* k_norm = nullptr;       // optional [head_dim - first_normed_k]
  const float* k_norm_bias = nullptr;  // optional, as long
  RopeStyle rope_style = RopeStyle::half_split;
  int64_t rotary_dim = 0;        // 0 rotates nothing; even, <= head_dim
  TensorView<const float> rope;  // [rows, rotary_dim]: cos of rotary_dim / 2 angles, then sin
  float q_scale = 1;
  TensorView<float> q_out;  // [rows, num_q_heads * head_dim]
  KvPages kv;
};

// Softmax attention of rows of q over the pages of their sequence. Query at position p sees key positions
// max(0, p - sliding_window + 1) .. p, or all start + count of its sequence when not causal.
struct AttentionParams {
  TensorView<const float> q;  // [rows, num_q_heads * head_dim], from KvAppendParams::q_out
  int64_t num_q_heads = 0;    // a multiple of kv.num_kv_heads
  KvPages kv;
  bool is_causal = true;
  int64_t sliding_window = 0;  // tokens, the current one included; 0 for all; causal only
  float soft_cap = 0;          // score = cap * tanh(score / cap); 0 for none
  TensorView<float> out;       // optional [rows, num_q_heads * value_dim]
  QuantizedRows quantized;     // optional, the same values; num_q_heads * value_dim % 32 == 0
};

}  // namespace autoglm
