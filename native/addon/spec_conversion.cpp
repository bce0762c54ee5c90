#include "addon/spec_conversion.h"

#include <optional>
#include <string>

#include "base/error.h"

namespace autoglm::addon {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 31;  // check_decoder_spec narrows this where the decoder needs it

float to_float(const JsObject& object, const char* name) { return static_cast<float>(object.number(name)); }

std::optional<float> to_optional_float(const JsObject& object, const char* name) {
  if (object.is_null(name)) return std::nullopt;
  return to_float(object, name);
}

NormSpec to_norm(const JsObject& norm) {
  return {.kind = static_cast<NormKind>(norm.choice("kind", {"rms", "layer"})),
          .epsilon = to_float(norm, "epsilon"),
          .has_unit_offset = norm.boolean("hasUnitOffset"),
          .has_bias = norm.boolean("hasBias")};
}

std::optional<NormSpec> to_optional_norm(const JsObject& object, const char* name) {
  if (object.is_null(name)) return std::nullopt;
  return to_norm(object.object(name));
}

LatentSpec to_latent(const JsObject& latent) {
  LatentSpec result;
  if (!latent.is_null("queryRank")) result.query_rank = latent.integer("queryRank", 1, kMaxSize);
  result.rank = latent.integer("rank", 1, kMaxSize);
  result.nope_dim = latent.integer("nopeDim", 1, kMaxSize);
  result.rope_dim = latent.integer("ropeDim", 0, kMaxSize);
  result.output_dim = latent.integer("outputDim", 1, kMaxSize);
  result.norm = to_norm(latent.object("norm"));
  return result;
}

AttentionSpec to_attention(const JsObject& attention) {
  AttentionSpec result;
  result.num_q_heads = attention.integer("numQHeads", 1, kMaxSize);
  result.num_kv_heads = attention.integer("numKvHeads", 1, kMaxSize);
  result.head_dim = attention.integer("headDim", 1, kMaxSize);
  result.value_dim = attention.integer("valueDim", 1, kMaxSize);
  result.scale = to_float(attention, "scale");
  result.has_qkv_bias = attention.boolean("hasQkvBias");
  result.has_output_bias = attention.boolean("hasOutputBias");
  result.qk_norm = to_optional_norm(attention, "qkNorm");
  if (!attention.is_null("slidingWindow"))
    result.sliding_window = attention.integer("slidingWindow", 1, kMaxSize);
  result.soft_cap = to_optional_float(attention, "softCap");
  result.is_causal = attention.boolean("isCausal");
  if (!attention.is_null("latent")) result.latent = to_latent(attention.object("latent"));
  if (!attention.is_null("ropeTable")) {
    result.rope_table = static_cast<int32_t>(attention.integer("ropeTable", 0, INT32_MAX));
  }
  return result;
}

Activation to_activation(const JsObject& mlp) {
  return static_cast<Activation>(mlp.choice("activation", {
#define AUTOGLM_ACTIVATION(name) #name,
#include "base/formats.def"
#undef AUTOGLM_ACTIVATION
                                                          }));
}

MlpSpec to_mlp(const JsObject& mlp) {
  return {.intermediate_size = mlp.integer("intermediateSize", 1, kMaxSize),
          .is_gated = mlp.boolean("isGated"),
          .activation = to_activation(mlp),
          .has_bias = mlp.boolean("hasBias")};
}

RouterSpec to_router(const JsObject& router) {
  return {.score = static_cast<RouterScore>(router.choice("score", {"softmax", "sigmoid"})),
          .has_correction_bias = router.boolean("hasCorrectionBias"),
          .num_groups = router.integer("numGroups", 1, kMaxSize),
          .top_groups = router.integer("topGroups", 1, kMaxSize),
          .normalizes_top_k = router.boolean("normalizesTopK"),
          .scale = to_float(router, "scale")};
}

MoeSpec to_moe(const JsObject& moe) {
  return {.num_experts = moe.integer("numExperts", 1, kMaxSize),
          .num_experts_per_token = moe.integer("numExpertsPerToken", 1, kMaxSize),
          .intermediate_size = moe.integer("intermediateSize", 1, kMaxSize),
          .shared_intermediate_size = moe.integer("sharedIntermediateSize", 0, kMaxSize),
          .has_shared_gate = moe.boolean("hasSharedGate"),
          .activation = to_activation(moe),
          .router = to_router(moe.object("router"))};
}

LayerSpec to_layer(const JsObject& layer) {
  LayerSpec result{.attention = to_attention(layer.object("attention")),
                   .mlp = {},
                   .norm_placement =
                       static_cast<NormPlacement>(layer.choice("normPlacement", {"pre", "sandwich", "post"})),
                   .norm = to_norm(layer.object("norm")),
                   .residual_scale = to_float(layer, "residualScale")};
  const JsObject mlp = layer.object("mlp");
  if (mlp.choice("kind", {"dense", "moe"}) == 0) {
    result.mlp = to_mlp(mlp);
  } else {
    result.moe = to_moe(mlp);
  }
  return result;
}

HeadSpec to_head(const JsObject& head) {
  return {.is_tied = head.boolean("isTied"),
          .has_bias = head.boolean("hasBias"),
          .soft_cap = to_optional_float(head, "softCap"),
          .scale = to_float(head, "scale")};
}

RopeTable to_rope_table(const JsObject& table) {
  RopeTable result;
  result.rotary_dim = table.integer("rotaryDim", 2, kMaxSize);
  result.style = static_cast<RopeStyle>(table.choice("style", {"interleaved", "half_split"}));
  const auto frequencies = float64_values(table.value("frequencies"), table.path_of("frequencies"));
  result.frequencies.assign(frequencies.begin(), frequencies.end());
  result.attention_factor = to_float(table, "attentionFactor");
  return result;
}

}  // namespace

DecoderSpec to_decoder_spec(const JsObject& spec) {
  DecoderSpec result;
  result.vocab_size = spec.integer("vocabSize", 1, kMaxSize);
  result.hidden_size = spec.integer("hiddenSize", 1, kMaxSize);
  result.context_length = spec.integer("contextLength", 1, kMaxSize);
  const JsObject embedding = spec.object("embedding");
  result.embedding = {.scale = to_float(embedding, "scale"),
                      .has_positions = embedding.boolean("hasPositions"),
                      .num_token_types = embedding.integer("numTokenTypes", 0, kMaxSize),
                      .norm = to_optional_norm(embedding, "norm")};
  for (const JsObject& layer : spec.objects("layers")) result.layers.push_back(to_layer(layer));
  result.final_norm = to_optional_norm(spec, "finalNorm");
  if (!spec.is_null("head")) result.head = to_head(spec.object("head"));
  for (const JsObject& layer : spec.objects("pooledLayers")) {
    result.pooled_layers.push_back({.out_size = layer.integer("outSize", 1, kMaxSize),
                                    .has_bias = layer.boolean("hasBias"),
                                    .has_tanh = layer.boolean("hasTanh")});
  }
  for (const JsObject& table : spec.objects("ropeTables")) result.rope_tables.push_back(to_rope_table(table));
  return result;
}

}  // namespace autoglm::addon
