// Models whose logits must be the same on a GPU as on the CPU, and the comparison.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "step_runner.h"

namespace autoglm::test {

inline constexpr size_t kNumTokens = 45;

// Beside the CPU without rounded activations, from which both back ends differ by roundings of their own.
// `num_spared` rows may differ by more. Layers before `first_layer` are the processor's beside the GPU.
inline void expect_equal_logits(const DecoderSpec& spec, StoredFormat format = StoredFormat::bf16,
                                size_t num_spared = 0, KvDtype kv_dtype = KvDtype::bf16,
                                int32_t first_layer = 0, double tolerance = kLogitTolerance) {
  SCOPED_TRACE("first layer on the GPU: " + std::to_string(first_layer));
  const RandomModel model(spec, format);
  const std::vector<int32_t> tokens = random_tokens(kNumTokens, spec.vocab_size, 3);
  LoadRequest request = model.request();
  request.is_exact = true;
  request.kv_dtype = KvDtype::f32;
  const std::vector<float> expected = StepRunner(request).logits(tokens, 64);
  ASSERT_FALSE(expected.empty());
  LoadRequest gpu_load = gpu_request(model, first_layer);
  gpu_load.kv_dtype = kv_dtype;
  StepRunner gpu(gpu_load);
  // Whole, then in pieces that end within pages and token by token, which replays graphs.
  for (const bool is_whole : {true, false}) {
    const std::vector<float> found = is_whole ? gpu.logits(tokens, 64) : gpu.logits(tokens, 13, 9);
    const std::vector<double> distances =
        row_distances(found, expected, static_cast<size_t>(spec.vocab_size));
    ASSERT_GT(distances.size(), num_spared) << (is_whole ? "the whole fails" : "pieces fail");
    EXPECT_LE(distances[num_spared], tolerance)
        << (is_whole ? "whole: " : "in pieces: ") << testing::PrintToString(distances);
  }
}

inline DecoderSpec with_every_layer(DecoderSpec spec, const std::function<void(LayerSpec&)>& change) {
  for (LayerSpec& layer : spec.layers) change(layer);
  return spec;
}

inline MoeSpec some_experts() {
  return {.num_experts = 6, .num_experts_per_token = 2, .intermediate_size = 64, .router = {}};
}

// A row whose experts are almost equally good may get another one.
inline constexpr size_t kRowsOnTheFence = 6;

inline DecoderSpec with_latents(DecoderSpec spec, bool is_low_rank) {
  return with_every_layer(std::move(spec), [&](LayerSpec& layer) {
    LatentSpec latent{.query_rank = std::nullopt,
                      .rank = 48,
                      .nope_dim = 24,
                      .rope_dim = 16,
                      .output_dim = 16,
                      .norm = {.kind = NormKind::rms, .epsilon = 1e-6F}};
    if (is_low_rank) latent.query_rank = 40;
    layer.attention.num_kv_heads = 1;
    layer.attention.head_dim = 64;
    layer.attention.value_dim = 48;
    layer.attention.scale = 0.16F;
    layer.attention.latent = latent;
  });
}

// Grouped experts, and a shared one, behind a dense first layer.
inline DecoderSpec with_grouped_experts(DecoderSpec spec) {
  for (size_t i = 1; i < spec.layers.size(); ++i) {
    MoeSpec& moe = spec.layers[i].moe.emplace(some_experts());
    moe.num_experts = 8;
    moe.shared_intermediate_size = 32;
    moe.has_shared_gate = i == 1;
    moe.router = {.score = RouterScore::sigmoid,
                  .has_correction_bias = true,
                  .num_groups = 4,
                  .top_groups = 2,
                  .scale = 1.5F};
  }
  return spec;
}

// Sees every token from every token; answers through two dense layers.
inline DecoderSpec small_encoder() {
  DecoderSpec spec = with_every_layer(small_spec(), [](LayerSpec& layer) {
    layer.attention.is_causal = false;
    layer.norm = {.kind = NormKind::layer, .epsilon = 1e-5F, .has_bias = true};
    layer.norm_placement = NormPlacement::post;
    layer.mlp.is_gated = false;
    layer.mlp.activation = Activation::gelu_tanh;
  });
  spec.head = std::nullopt;
  spec.final_norm = std::nullopt;
  spec.embedding.num_token_types = 2;
  spec.embedding.norm = NormSpec{.kind = NormKind::layer, .epsilon = 1e-5F, .has_bias = true};
  spec.pooled_layers = {{.out_size = 64, .has_bias = true, .has_tanh = true}, {.out_size = 3}};
  return spec;
}

// The mean of the hidden states through the dense layers.
inline void expect_equal_pooled(int32_t first_layer, StoredFormat format = StoredFormat::bf16) {
  const DecoderSpec spec = small_encoder();
  const RandomModel model(spec, format);
  StepRunner cpu(model, Place::cpu);
  StepRunner gpu(gpu_request(model, first_layer));
  const Request request{.tokens = random_tokens(kNumTokens, spec.vocab_size, 5),
                        .pooling = Pooling::mean,
                        .second_segment = 20};
  const std::vector<float> expected = cpu.pooled(request, 64);
  ASSERT_FALSE(expected.empty());
  EXPECT_LE(worst_row(gpu.pooled(request, 64), expected, expected.size()), kLogitTolerance);
}

}  // namespace autoglm::test
