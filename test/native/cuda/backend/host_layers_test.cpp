// Models whose first layers the processor computes and whose last ones a GPU.
#include <gtest/gtest.h>

#include <semaphore>

#include "base/error.h"
#include "equal_logits.h"
#include "model/gpu/device_step.h"
#include "model/gpu/gpu_back_end.h"
#include "runtime/save_job.h"

namespace autoglm::test {
namespace {

TEST(GpuHostLayers, LeaveTheLogitsOfTheCpuWhereverTheySplitAModel) {
  for (int32_t first = 1; first < 4; ++first)
    expect_equal_logits(small_spec(4), StoredFormat::bf16, 0, KvDtype::bf16, first);
}

TEST(GpuHostLayers, LookUpWhatATiedHeadMultipliesWith) {
  DecoderSpec spec = small_spec();
  spec.head->is_tied = true;
  spec.embedding.scale = 0.5F;
  expect_equal_logits(spec, StoredFormat::bf16, 0, KvDtype::bf16, 1);
  expect_equal_logits(spec, StoredFormat::q4_0, 0, KvDtype::bf16, 1);
}

TEST(GpuHostLayers, MayBeDenseBeforeExperts) {
  const DecoderSpec spec = with_grouped_experts(small_spec(3));
  for (const int32_t first : {1, 2})
    expect_equal_logits(spec, StoredFormat::bf16, kRowsOnTheFence, KvDtype::bf16, first);
}

TEST(GpuHostLayers, AttendToLatents) {
  for (const bool is_low_rank : {false, true})
    expect_equal_logits(with_latents(small_spec(3), is_low_rank), StoredFormat::bf16, 0, KvDtype::bf16, 2);
}

DecoderSpec with_two_rope_tables(DecoderSpec spec) {
  spec.rope_tables.push_back(spec.rope_tables.front());
  for (double& frequency : spec.rope_tables.back().frequencies) frequency /= 8;
  return spec;
}

// The tables of a model are more than its first layers name.
TEST(GpuHostLayers, SlideWindowsAndRotateByTablesOfTheirOwn) {
  DecoderSpec spec = with_two_rope_tables(small_spec(4));
  for (const size_t i : {1, 3}) {
    spec.layers[i].attention.sliding_window = 7;
    spec.layers[i].attention.rope_table = 1;
  }
  for (int32_t first = 1; first < 4; ++first)
    expect_equal_logits(spec, StoredFormat::bf16, 0, KvDtype::bf16, first);
}

// No layer names the second table: rows may take it in place of the first.
TEST(GpuHostLayers, RotateByTheTableThatARowNames) {
  const RandomModel model(with_two_rope_tables(small_spec()), StoredFormat::bf16);
  StepRunner cpu(model, Place::cpu);
  StepRunner gpu(gpu_request(model, 1));
  const std::vector<int32_t> tokens = random_tokens(45, 96, 3);
  const std::vector<float> expected = cpu.logits(tokens, 64, 0, 1);
  EXPECT_GT(worst_row(cpu.logits(tokens, 64), expected, 96), 0.2);
  EXPECT_LE(worst_row(gpu.logits(tokens, 13, 9, 1), expected, 96), kLogitTolerance);
}

TEST(GpuHostLayers, CountAmongTheLayersThatNameATable) {
  DecoderSpec spec = with_two_rope_tables(small_spec());
  spec.layers[0].attention.rope_table = 1;
  const auto places = gpu::open_gpus(spec, Precision::fast, KvDtype::bf16, fake_device());
  EXPECT_EQ(gpu::StepPlanner(spec, places.front().context, 1, 64).num_row_rope_tables(), 1);
}

TEST(GpuHostLayers, KeepKeysAndValuesInInt8) {
  expect_equal_logits(small_spec(3), StoredFormat::bf16, 0, KvDtype::int8, 2);
}

TEST(GpuHostLayers, NormBehindSublayers) {
  for (const NormPlacement placement : {NormPlacement::sandwich, NormPlacement::post}) {
    const DecoderSpec spec = with_every_layer(small_spec(3), [&](LayerSpec& layer) {
      layer.norm_placement = placement;
      layer.residual_scale = 0.8F;
    });
    for (const int32_t first : {0, 1, 2})
      expect_equal_logits(spec, StoredFormat::bf16, 0, KvDtype::bf16, first);
  }
}

TEST(GpuHostLayers, BeginAnEncoder) { expect_equal_pooled(1); }

TEST(GpuHostLayers, PoolHiddenStatesInChunks) {
  const RandomModel model(small_spec(3), StoredFormat::bf16);
  StepRunner cpu(model, Place::cpu);
  StepRunner gpu(gpu_request(model, 1));
  for (const Pooling pooling : {Pooling::first, Pooling::mean, Pooling::last}) {
    const Request request{.tokens = random_tokens(45, 96, 6), .pooling = pooling};
    const std::vector<float> expected = cpu.pooled(request, 64);
    EXPECT_LE(worst_row(gpu.pooled(request, 17), expected, expected.size()), kLogitTolerance);
  }
}

// Goal: every layer's weights and pages are on one side alone. Method: both sides of each split of a model of
// equal layers, beside the whole on either side.
TEST(GpuHostLayers, ShareTheMemoryWithTheGpu) {
  constexpr int64_t kNumLayers = 4;
  constexpr int64_t kPage = 4096;
  const RandomModel model(small_spec(kNumLayers), StoredFormat::bf16);
  const ModelMemory on_cpu = StepRunner(model, Place::cpu).model().memory();
  const ModelMemory on_gpu = StepRunner(model, Place::gpu).model().memory();
  EXPECT_EQ(on_gpu.host.weight_bytes, 0);
  EXPECT_EQ(on_gpu.host.kv_bytes, 0);
  ModelMemory before = on_gpu;
  for (int32_t first = 1; first < kNumLayers; ++first) {
    const ModelMemory memory = StepRunner(gpu_request(model, first)).model().memory();
    EXPECT_EQ(memory.device.kv_bytes * kNumLayers, on_gpu.device.kv_bytes * (kNumLayers - first));
    EXPECT_EQ(memory.host.kv_bytes * kNumLayers, on_cpu.host.kv_bytes * first);
    EXPECT_LT(memory.device.weight_bytes, before.device.weight_bytes);
    EXPECT_GT(memory.host.weight_bytes, before.host.weight_bytes);
    EXPECT_LT(memory.host.weight_bytes, on_cpu.host.weight_bytes - kPage);
    EXPECT_GT(memory.host.scratch_bytes, on_gpu.host.scratch_bytes);
    before = memory;
  }
}

TEST(GpuHostLayers, AreNotTakenForAllWeightsOfAModel) {
  const RandomModel model(small_spec(), StoredFormat::bf16);
  const StepRunner gpu(gpu_request(model, 1));
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "autoglm-split-weights";
  std::ofstream(path).close();
  const int32_t pace = 1;
  std::binary_semaphore done(0);
  SaveJob job(gpu.shared_model(), {.path = path, .offset = 0, .section_bytes = 1 << 20, .pace = &pace},
              [&done] { done.release(); });
  done.acquire();
  try {
    job.take_checksums();
    ADD_FAILURE() << "a part of the weights was written";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code), name_of(ErrorCode::invalid_parameter)) << error.what();
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace autoglm::test
