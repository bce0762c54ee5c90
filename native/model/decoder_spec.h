// What the decoder executes: the C++ mirror of lib/native/decoder-spec.ts, field by field. Families produce
// it in TypeScript; nothing here knows a family name. A spec that passed `check_decoder_spec` may be trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/formats.h"

namespace autoglm {

struct NormSpec {
  NormKind kind = NormKind::rms;
  float epsilon = 0;
  bool has_unit_offset = false;  // the file stores w - 1
  bool has_bias = false;
};

struct EmbeddingSpec {
  float scale = 1;
  bool has_positions = false;
  int64_t num_token_types = 0;  // 0: the model does not tell segments apart
  std::optional<NormSpec> norm;
};

struct HeadSpec {
  bool is_tied = false;
  bool has_bias = false;
  std::optional<float> soft_cap;
  float scale = 1;
};

struct LatentSpec {
  std::optional<int64_t> query_rank;
  int64_t rank = 0;
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
  int64_t output_dim = 0;
  NormSpec norm;
};

struct AttentionSpec {
  int64_t num_q_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t value_dim = 0;
  float scale = 0;
  bool has_qkv_bias = false;
  bool has_output_bias = false;
  std::optional<NormSpec> qk_norm;
  std::optional<int64_t> sliding_window;  // tokens, the current one included
  std::optional<float> soft_cap;
  bool is_causal = true;
  std::optional<int32_t> rope_table;
  std::optional<LatentSpec> latent = std::nullopt;

  // Columns of all heads.
  int64_t q_cols() const { return num_q_heads * head_dim; }
  int64_t k_cols() const { return num_kv_heads * head_dim; }
  int64_t v_cols() const { return num_kv_heads * value_dim; }
  int64_t attended_cols() const { return num_q_heads * value_dim; }
};

struct RopeTable {
  int64_t rotary_dim = 0;
  RopeStyle style = RopeStyle::half_split;
  std::vector<double> frequencies;  // radians per position, [rotary_dim / 2]
  float attention_factor = 1;
};

struct MlpSpec {
  int64_t intermediate_size = 0;
  bool is_gated = true;
  Activation activation = Activation::silu;
  bool has_bias = false;

  int64_t gate_up_cols() const { return intermediate_size * (is_gated ? 2 : 1); }
};

struct RouterSpec {
  RouterScore score = RouterScore::softmax;
  bool has_correction_bias = false;
  int64_t num_groups = 1;
  int64_t top_groups = 1;
  bool normalizes_top_k = false;
  float scale = 1;
};

struct MoeSpec {
  int64_t num_experts = 0;
  int64_t num_experts_per_token = 0;
  int64_t intermediate_size = 0;
  int64_t shared_intermediate_size = 0;  // 0 for no shared expert
  bool has_shared_gate = false;
  Activation activation = Activation::silu;
  RouterSpec router;
};

enum class NormPlacement : uint8_t { pre, sandwich, post };

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;  // unless there is `moe`
  std::optional<MoeSpec> moe = std::nullopt;
  NormPlacement norm_placement = NormPlacement::pre;
  NormSpec norm;
  float residual_scale = 1;
};

// y = w x + b, then tanh where the layer has one.
struct PooledLayerSpec {
  int64_t out_size = 0;
  bool has_bias = false;
  bool has_tanh = false;
};

struct DecoderSpec {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t context_length = 0;
  EmbeddingSpec embedding;
  std::vector<LayerSpec> layers;
  std::optional<NormSpec> final_norm;
  std::optional<HeadSpec> head;                // absent from encoders: they answer `pool` requests only
  std::vector<PooledLayerSpec> pooled_layers;  // applied to a pooled vector in order
  std::vector<RopeTable> rope_tables;

  // Floats of the answer to a `pool` request.
  int64_t pooled_size() const { return pooled_layers.empty() ? hidden_size : pooled_layers.back().out_size; }
  // Attention that sees the future: every input has to be computed in one piece.
  bool is_bidirectional() const;
  // What computes the first `count` layers, at least 1, for others to go on: nothing stands behind them,
  // unless these are all.
  DecoderSpec first_layers(int64_t count) const;
};

// Throws invalid_parameter for values outside the decoder's limits (sizes that later products could overflow,
// rope tables that do not exist) and unsupported_model for settings that no kernel executes.
void check_decoder_spec(const DecoderSpec& spec);

// Throws invalid_parameter for layers whose keys and values cannot be kept as `dtype`, and for fp8 on the
// processor.
void check_kv_dtype(const DecoderSpec& spec, KvDtype dtype, bool is_on_gpu);

}  // namespace autoglm
