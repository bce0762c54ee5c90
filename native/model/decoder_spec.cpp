#include "model/decoder_spec.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace autoglm {
namespace {

// Together these keep every product of sizes far inside 64 bits.
constexpr int64_t kMaxVocabSize = int64_t{1} << 24;
constexpr int64_t kMaxHiddenSize = int64_t{1} << 17;
constexpr int64_t kMaxContextLength = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediateSize = kMaxHiddenSize * 8;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxTokenTypes = 1024;
constexpr int64_t kMaxPooledLayers = 16;

void check_range(const std::string& what, int64_t found, int64_t low, int64_t high) {
  if (found >= low && found <= high) return;
  throw Error(ErrorCode::invalid_parameter, "expected " + what + " in " + std::to_string(low) + ".." +
                                                std::to_string(high) + ", got " + std::to_string(found));
}

void check_finite(const std::string& what, double found) {
  if (std::isfinite(found)) return;
  throw Error(ErrorCode::invalid_parameter,
              "expected " + what + " to be finite, got " + std::to_string(found));
}

void check_norm(const std::string& what, const NormSpec& norm) {
  check_finite(what + ".epsilon", norm.epsilon);
  if (norm.epsilon < 0) {
    throw Error(ErrorCode::invalid_parameter,
                "expected " + what + ".epsilon to be at least 0, got " + std::to_string(norm.epsilon));
  }
}

void check_latent(const std::string& what, const AttentionSpec& attention) {
  const LatentSpec& latent = *attention.latent;
  check_range(what + ".latent.queryRank", latent.query_rank.value_or(1), 1, kMaxHiddenSize);
  check_range(what + ".latent.nopeDim", latent.nope_dim, 1, kMaxHeadDim);
  check_range(what + ".latent.outputDim", latent.output_dim, 1, kMaxHeadDim);
  check_norm(what + ".latent.norm", latent.norm);
  check_range(what + ".latent.ropeDim", latent.rope_dim, 0, attention.head_dim);
  check_range(what + ".numKvHeads of latent attention", attention.num_kv_heads, 1, 1);
  check_range(what + ".valueDim of latent attention", attention.value_dim, latent.rank, latent.rank);
  check_range(what + ".headDim of latent attention", attention.head_dim, latent.rope_dim + latent.rank,
              latent.rope_dim + latent.rank);
  if (attention.qk_norm) {
    throw Error(ErrorCode::unsupported_model, what + " norms the heads of latent attention");
  }
  if (latent.rope_dim % 16 != 0 || latent.rank % 16 != 0) {
    throw Error(ErrorCode::unsupported_model,
                what + ": latent attention needs ropeDim and rank to be multiples of 16, got " +
                    std::to_string(latent.rope_dim) + " and " + std::to_string(latent.rank));
  }
}

void check_attention(const std::string& what, const AttentionSpec& attention, const DecoderSpec& spec) {
  check_range(what + ".numQHeads", attention.num_q_heads, 1, kMaxHeads);
  check_range(what + ".numKvHeads", attention.num_kv_heads, 1, attention.num_q_heads);
  if (attention.num_q_heads % attention.num_kv_heads != 0) {
    throw Error(ErrorCode::invalid_parameter,
                what + " has " + std::to_string(attention.num_q_heads) + " query heads, which " +
                    std::to_string(attention.num_kv_heads) + " key-value heads do not divide");
  }
  check_range(what + ".headDim", attention.head_dim, 1, kMaxHeadDim);
  check_range(what + ".valueDim", attention.value_dim, 1, kMaxHeadDim);
  check_finite(what + ".scale", attention.scale);
  check_finite(what + ".softCap", attention.soft_cap.value_or(1));
  if (attention.soft_cap.value_or(1) <= 0) {
    throw Error(ErrorCode::invalid_parameter, "expected " + what + ".softCap to be above 0");
  }
  if (attention.qk_norm) check_norm(what + ".qkNorm", *attention.qk_norm);
  if (!attention.is_causal && attention.sliding_window) {
    throw Error(ErrorCode::unsupported_model,
                what + " has a sliding window without being causal, which no kernel computes");
  }
  if (attention.latent) check_latent(what, attention);
  if (!attention.rope_table) return;
  check_range(what + ".ropeTable", *attention.rope_table, 0,
              static_cast<int64_t>(spec.rope_tables.size()) - 1);
  const RopeTable& table = spec.rope_tables[static_cast<size_t>(*attention.rope_table)];
  const int64_t max_rotary = attention.latent ? attention.latent->rope_dim : attention.head_dim;
  check_range(what + ": rotaryDim of its rope table", table.rotary_dim, 2, max_rotary);
}

void check_moe(const std::string& what, const MoeSpec& moe) {
  check_range(what + ".numExperts", moe.num_experts, 1, kMaxExperts);
  check_range(what + ".numExpertsPerToken", moe.num_experts_per_token, 1, moe.num_experts);
  check_range(what + ".intermediateSize", moe.intermediate_size, 1, kMaxIntermediateSize);
  check_range(what + ".sharedIntermediateSize", moe.shared_intermediate_size, 0, kMaxIntermediateSize);
  if (moe.has_shared_gate && moe.shared_intermediate_size == 0) {
    throw Error(ErrorCode::invalid_parameter, what + " has a gate for a shared expert that it does not have");
  }
  const RouterSpec& router = moe.router;
  check_finite(what + ".router.scale", router.scale);
  check_range(what + ".router.numGroups", router.num_groups, 1, moe.num_experts);
  check_range(what + ".router.topGroups", router.top_groups, 1, router.num_groups);
  if (moe.num_experts % router.num_groups != 0) {
    throw Error(ErrorCode::invalid_parameter, what + " has " + std::to_string(moe.num_experts) +
                                                  " experts, which " + std::to_string(router.num_groups) +
                                                  " groups do not divide");
  }
  const int64_t num_candidates = moe.num_experts / router.num_groups * router.top_groups;
  check_range(what + ".numExpertsPerToken", moe.num_experts_per_token, 1, num_candidates);
}

void check_head(const HeadSpec& head) {
  check_finite("spec.head.scale", head.scale);
  check_finite("spec.head.softCap", head.soft_cap.value_or(1));
  if (head.soft_cap.value_or(1) <= 0) {
    throw Error(ErrorCode::invalid_parameter, "expected spec.head.softCap to be above 0");
  }
}

void check_rope_table(const std::string& what, const RopeTable& table) {
  check_range(what + ".rotaryDim", table.rotary_dim, 2, kMaxHeadDim);
  if (table.rotary_dim % 2 != 0 || static_cast<int64_t>(table.frequencies.size()) != table.rotary_dim / 2) {
    throw Error(ErrorCode::invalid_parameter,
                what + " rotates " + std::to_string(table.rotary_dim) + " dims and has " +
                    std::to_string(table.frequencies.size()) + " frequencies, expected one per pair");
  }
  for (const double frequency : table.frequencies) check_finite(what + ".frequencies", frequency);
  check_finite(what + ".attentionFactor", table.attention_factor);
}

}  // namespace

bool DecoderSpec::is_bidirectional() const {
  return std::ranges::any_of(layers, [](const LayerSpec& layer) { return !layer.attention.is_causal; });
}

DecoderSpec DecoderSpec::first_layers(int64_t count) const {
  DecoderSpec result = *this;
  if (count == static_cast<int64_t>(layers.size())) return result;
  result.layers.resize(static_cast<size_t>(count));
  result.final_norm.reset();
  result.head.reset();
  result.pooled_layers.clear();
  return result;
}

void check_decoder_spec(const DecoderSpec& spec) {
  check_range("spec.vocabSize", spec.vocab_size, 1, kMaxVocabSize);
  check_range("spec.hiddenSize", spec.hidden_size, 1, kMaxHiddenSize);
  check_range("spec.contextLength", spec.context_length, 1, kMaxContextLength);
  check_range("the number of spec.layers", static_cast<int64_t>(spec.layers.size()), 1, kMaxLayers);
  check_finite("spec.embedding.scale", spec.embedding.scale);
  check_range("spec.embedding.numTokenTypes", spec.embedding.num_token_types, 0, kMaxTokenTypes);
  if (spec.head) check_head(*spec.head);
  check_range("the number of spec.pooledLayers", static_cast<int64_t>(spec.pooled_layers.size()), 0,
              kMaxPooledLayers);
  for (const PooledLayerSpec& layer : spec.pooled_layers) {
    check_range("spec.pooledLayers[].outSize", layer.out_size, 1, kMaxHiddenSize);
  }
  if (spec.embedding.norm) check_norm("spec.embedding.norm", *spec.embedding.norm);
  if (spec.final_norm) check_norm("spec.finalNorm", *spec.final_norm);
  for (size_t i = 0; i < spec.rope_tables.size(); ++i) {
    check_rope_table("spec.ropeTables[" + std::to_string(i) + "]", spec.rope_tables[i]);
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string what = "spec.layers[" + std::to_string(i) + "]";
    const LayerSpec& layer = spec.layers[i];
    check_attention(what + ".attention", layer.attention, spec);
    if (layer.moe) {
      check_moe(what + ".mlp", *layer.moe);
    } else {
      check_range(what + ".mlp.intermediateSize", layer.mlp.intermediate_size, 1, kMaxIntermediateSize);
    }
    check_norm(what + ".norm", layer.norm);
    check_finite(what + ".residualScale", layer.residual_scale);
  }
}

void check_kv_dtype(const DecoderSpec& spec, KvDtype dtype, bool is_on_gpu) {
  if (info_of(dtype).scale_bytes == 0) return;
  if (dtype == KvDtype::fp8 && !is_on_gpu) {
    throw Error(
        ErrorCode::invalid_parameter,
        "expected kvDtype bf16, int8 or f32 on the processor, got fp8: only a GPU has kernels for it");
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = spec.layers[i].attention;
    if (!attention.latent && attention.head_dim >= 4) continue;
    throw Error(ErrorCode::invalid_parameter,
                "layers." + std::to_string(i) + ": expected kvDtype " + (is_on_gpu ? "bf16" : "bf16 or f32") +
                    " for a latent and for heads of 2 dims, got " + std::string(info_of(dtype).name));
  }
}

}  // namespace autoglm
