// What a GPU computes, beside what the CPU computes from the same file: the same steps through
// runtime::Model.
#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "equal_logits.h"
#include "model/gpu/weight_upload.h"

namespace autoglm::test {
namespace {

TEST(GpuDecoder, ComputesTheLogitsOfTheCpu) { expect_equal_logits(small_spec()); }

class GpuDecoderFormats : public testing::TestWithParam<StoredFormat> {
 protected:
  static DecoderSpec spec() {
    if (info_of(GetParam()).elements_per_block != 256 && GetParam() != StoredFormat::gptq_4)
      return small_spec();
    DecoderSpec spec = small_spec(1);  // for blocks of 256, or groups of 128
    spec.hidden_size = 256;
    return with_every_layer(spec, [](LayerSpec& layer) {
      layer.mlp.intermediate_size = 256;
      layer.attention.num_q_heads = 16;
    });
  }
  // Random scales beside random mins cancel in some rows.
  static size_t num_spared() { return GetParam() == StoredFormat::q4_k ? 4 : 0; }
};

TEST_P(GpuDecoderFormats, ComputeTheLogitsOfTheCpu) { expect_equal_logits(spec(), GetParam(), num_spared()); }

// The last panel of the vocabulary is not full. What cancels in a row of the embedding does so in logits,
// too.
TEST_P(GpuDecoderFormats, LookTokensUpInTheMatrixOfATiedHead) {
  DecoderSpec tied = spec();
  tied.vocab_size = 83;
  tied.head->is_tied = true;
  tied.embedding.scale = 0.5F;
  expect_equal_logits(tied, GetParam(), 2 * num_spared());
}

INSTANTIATE_TEST_SUITE_P(All, GpuDecoderFormats,
                         testing::Values(StoredFormat::f32, StoredFormat::f16, StoredFormat::q8_0,
                                         StoredFormat::q4_0, StoredFormat::q4_1, StoredFormat::iq4_nl,
                                         StoredFormat::q6_k, StoredFormat::q4_k, StoredFormat::gptq_4),
                         [](const auto& info) { return std::string(info_of(info.param).name); });

int64_t device_weight_bytes(const DecoderSpec& spec, StoredFormat format) {
  return StepRunner(RandomModel(spec, format), Place::gpu).model().memory().device.weight_bytes;
}

// Goal: embedding and head take what their codes take, and only once where they are tied. Method: what the
// memory of a model grows by with its vocabulary.
TEST(GpuDecoder, KeepsOneMatrixForEmbeddingAndTiedHead) {
  constexpr int64_t kMoreTokens = 1024;
  const gpu::DeviceForm w4{.layout = cuda::DeviceLayout::w4, .group = 32};
  const gpu::DeviceForm w4_64{.layout = cuda::DeviceLayout::w4, .group = 64};
  const gpu::DeviceForm w8{.layout = cuda::DeviceLayout::w8, .group = 32};
  for (const auto& [format, form] :
       {std::pair(StoredFormat::q4_0, w4), std::pair(StoredFormat::q8_0, w8),
        std::pair(StoredFormat::gptq_4, w4_64), std::pair(StoredFormat::bf16, gpu::DeviceForm{})}) {
    for (const bool is_tied : {false, true}) {
      DecoderSpec spec = small_spec(1);
      spec.head->is_tied = is_tied;
      const int64_t before = device_weight_bytes(spec, format);
      const int64_t num_tokens = std::exchange(spec.vocab_size, spec.vocab_size + kMoreTokens);
      const int64_t expected = gpu::device_matrix_bytes(form, spec.vocab_size, spec.hidden_size) -
                               gpu::device_matrix_bytes(form, num_tokens, spec.hidden_size);
      EXPECT_EQ(device_weight_bytes(spec, format) - before, is_tied ? expected : 2 * expected)
          << info_of(format).name << (is_tied ? ", tied" : "");
    }
  }
}

// Goal: halves are multiplied with all their bits. Method: logits lie closer to the processor's than those of
// the same weights rounded to bfloat16, in products of few rows and of many.
TEST(GpuDecoder, IsCloserWithHalvesThanWithTheirRoundedValues) {
  const auto mean = [](const std::vector<double>& distances) {
    return std::reduce(distances.begin(), distances.end()) / static_cast<double>(distances.size());
  };
  const DecoderSpec dense = small_spec();
  const DecoderSpec mixed = with_every_layer(small_spec(1), [](LayerSpec& layer) {
    layer.moe = some_experts();
    layer.moe->num_experts_per_token = layer.moe->num_experts;  // all of them: none is on the fence
  });
  for (const DecoderSpec& spec : {dense, mixed}) {
    const RandomModel halves(spec, StoredFormat::f16, 1);
    const RandomModel coarse(spec, StoredFormat::f16, 1, true);
    const std::vector<int32_t> tokens = random_tokens(kNumTokens, spec.vocab_size, 3);
    LoadRequest exact = halves.request();
    exact.is_exact = true;
    exact.kv_dtype = KvDtype::f32;
    const std::vector<float> expected = StepRunner(exact).logits(tokens, 64);
    for (const int64_t rows_at_once : {64, 3}) {
      const auto distance = [&](const RandomModel& model) {
        const std::vector<float> found = StepRunner(model, Place::gpu).logits(tokens, rows_at_once);
        return mean(row_distances(found, expected, static_cast<size_t>(spec.vocab_size)));
      };
      EXPECT_LT(distance(halves), 0.8 * distance(coarse)) << rows_at_once << " rows at once";
    }
  }
}

// No group of quantized codes has such a hidden size; its floats are what a row of bfloat16 is looked up
// from.
TEST(GpuDecoder, TakesHiddenSizesThatAreNoMultipleOf32) {
  DecoderSpec spec = small_spec(1);
  spec.hidden_size = 72;
  spec.head->is_tied = true;
  expect_equal_logits(spec, StoredFormat::f16);
}

TEST(GpuDecoder, AppliesBiasesScalesAndSoftCaps) {
  DecoderSpec spec = with_every_layer(small_spec(), [](LayerSpec& layer) {
    layer.attention.has_qkv_bias = layer.attention.has_output_bias = layer.mlp.has_bias = true;
    layer.attention.soft_cap = 20.0F;
    layer.residual_scale = 0.7F;
  });
  spec.head->has_bias = true;
  spec.head->scale = 0.25F;
  spec.head->soft_cap = 5.0F;
  expect_equal_logits(spec);
}

// A panel of gate's rows ends within one of up's, which no device kernel can take apart.
TEST(GpuDecoder, TakesIntermediateSizesThatEndWithinAPanel) {
  const DecoderSpec spec =
      with_every_layer(small_spec(), [](LayerSpec& layer) { layer.mlp.intermediate_size = 72; });
  expect_equal_logits(spec);
}

TEST(GpuDecoder, NormsQueriesAndKeys) {
  expect_equal_logits(with_every_layer(small_spec(), [](LayerSpec& layer) {
    layer.attention.qk_norm = NormSpec{.kind = NormKind::rms, .epsilon = 1e-6F, .has_unit_offset = true};
  }));
}

TEST(GpuDecoder, SlidesWindowsInSomeLayers) {
  DecoderSpec spec = small_spec(3);
  spec.layers[1].attention.sliding_window = 7;
  expect_equal_logits(spec);
}

TEST(GpuDecoder, NormsBehindSublayers) {
  for (const NormPlacement placement : {NormPlacement::sandwich, NormPlacement::post}) {
    expect_equal_logits(with_every_layer(small_spec(), [&](LayerSpec& layer) {
      layer.norm_placement = placement;
      layer.residual_scale = 0.8F;
    }));
  }
}

TEST(GpuDecoder, ComputesUngatedLayersWithLayerNormsAndPositions) {
  DecoderSpec spec = with_every_layer(small_spec(), [](LayerSpec& layer) {
    layer.norm = {.kind = NormKind::layer, .epsilon = 1e-5F, .has_bias = true};
    layer.mlp.is_gated = false;
    layer.mlp.activation = Activation::gelu_tanh;
    layer.mlp.has_bias = true;
    layer.attention.rope_table = std::nullopt;
  });
  spec.rope_tables.clear();
  spec.embedding.has_positions = true;
  spec.embedding.norm = NormSpec{.kind = NormKind::layer, .epsilon = 1e-5F, .has_bias = true};
  spec.final_norm = std::nullopt;
  spec.head->scale = 0.3F;
  expect_equal_logits(spec);
  expect_equal_logits(spec, StoredFormat::f16);
  expect_equal_logits(spec, StoredFormat::q8_0);
}

TEST(GpuDecoder, RotatesPartOfAHeadInEitherStyle) {
  DecoderSpec spec = with_every_layer(small_spec(), [](LayerSpec& layer) {
    layer.attention.head_dim = 32;
    layer.attention.value_dim = 32;
  });
  spec.rope_tables[0].style = RopeStyle::interleaved;
  expect_equal_logits(spec);
}

TEST(GpuDecoder, MixesExperts) {
  const DecoderSpec spec = with_every_layer(small_spec(), [](LayerSpec& layer) {
    layer.moe = some_experts();
    layer.moe->router.normalizes_top_k = true;
  });
  expect_equal_logits(spec, StoredFormat::bf16, kRowsOnTheFence);
}

TEST(GpuDecoder, MixesGroupedExpertsWithASharedOne) {
  const DecoderSpec spec = with_grouped_experts(small_spec(3));
  expect_equal_logits(spec, StoredFormat::bf16, kRowsOnTheFence);
  expect_equal_logits(spec, StoredFormat::f16, kRowsOnTheFence);
  expect_equal_logits(spec, StoredFormat::q4_0, kRowsOnTheFence);
}

TEST(GpuDecoder, KeepsKeysAndValuesInInt8) {
  expect_equal_logits(small_spec(), StoredFormat::bf16, 0, KvDtype::int8);
}

// A code of e4m3 is off by up to 1/16 of its value.
TEST(GpuDecoder, KeepsKeysAndValuesInFp8) {
  constexpr double kTolerance = 1.0 / 16;
  const DecoderSpec spec = small_spec();
  expect_equal_logits(spec, StoredFormat::bf16, 0, KvDtype::fp8, 0, kTolerance);
  const RandomModel model(spec, StoredFormat::bf16);
  const std::vector<int32_t> tokens = random_tokens(kNumTokens, spec.vocab_size, 3);
  StepRunner int8(model, Place::gpu, KvDtype::int8);
  StepRunner fp8(model, Place::gpu, KvDtype::fp8);
  EXPECT_NE(fp8.logits(tokens, 64), int8.logits(tokens, 64));
  // 2 layers of 2 heads, 16 tokens of keys and values of 16 dims, a scale for each
  EXPECT_EQ(fp8.model().memory().device.kv_bytes, model.request().num_pages * 2 * 2 * 16 * 2 * (16 + 4));
}

TEST(GpuDecoder, AttendsToLatents) {
  for (const bool is_low_rank : {false, true}) {
    for (const StoredFormat format : {StoredFormat::bf16, StoredFormat::f16}) {
      expect_equal_logits(with_latents(small_spec(), is_low_rank), format);
    }
  }
}

TEST(GpuDecoder, AnswersPooledRequestsOfAnEncoder) {
  for (const StoredFormat format : {StoredFormat::bf16, StoredFormat::q4_0}) expect_equal_pooled(0, format);
}

TEST(GpuDecoder, PoolsHiddenStatesOfADecoderInChunks) {
  const RandomModel model(small_spec(), StoredFormat::bf16);
  StepRunner cpu(model, Place::cpu);
  StepRunner gpu(model, Place::gpu);
  for (const Pooling pooling : {Pooling::first, Pooling::mean, Pooling::last}) {
    const Request request{.tokens = random_tokens(kNumTokens, 96, 6), .pooling = pooling};
    const std::vector<float> expected = cpu.pooled(request, 64);
    EXPECT_LE(worst_row(gpu.pooled(request, 64), expected, expected.size()), kLogitTolerance);
    EXPECT_LE(worst_row(gpu.pooled(request, 17), expected, expected.size()), kLogitTolerance);
  }
}

}  // namespace
}  // namespace autoglm::test
