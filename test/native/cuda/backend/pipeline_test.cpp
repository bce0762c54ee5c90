// A model's layers on two and three devices: what comes of them has the bits of one device, whatever the way
// between the devices.
#include <gtest/gtest.h>

#include <filesystem>

#include "equal_logits.h"
#include "pipeline_fixture.h"
#include "random_adapter.h"

namespace autoglm::test {
namespace {

constexpr int64_t kNumLayers = 4;

class GpuPipelineLayers : public PipelineTest {
 protected:
  // Whole, in pieces that end within pages, and token by token, which replays graphs.
  void expect_bits_of_one_device(const DecoderSpec& spec, const Cuts& cuts,
                                 StoredFormat format = StoredFormat::bf16, KvDtype kv_dtype = KvDtype::bf16) {
    SCOPED_TRACE("first layers of the devices: " + testing::PrintToString(cuts));
    const RandomModel model(spec, format);
    LoadRequest one_load = gpu_request(model, cuts.front());
    LoadRequest several_load = pipeline_request(model, cuts);
    one_load.kv_dtype = several_load.kv_dtype = kv_dtype;
    StepRunner one(one_load);
    StepRunner several(several_load);
    const std::vector<int32_t> tokens = random_tokens(29, spec.vocab_size, 3);
    for (const auto& [chunk, num_single] : {std::pair(64, 0), std::pair(13, 6)}) {
      const std::vector<float> expected = one.logits(tokens, chunk, num_single);
      ASSERT_FALSE(expected.empty()) << one.model().step_failure(0);
      const std::vector<float> found = several.logits(tokens, chunk, num_single);
      ASSERT_FALSE(found.empty()) << several.model().step_failure(0);
      EXPECT_TRUE(found == expected) << "in chunks of " << chunk << ": "
                                     << worst_row(found, expected, static_cast<size_t>(spec.vocab_size));
    }
    EXPECT_EQ(driver_.count("peer_copies") > 0, has_peers_);
  }

  bool has_peers_ = true;
};

// The parameter: whether the devices reach each other.
class GpuPipeline : public GpuPipelineLayers, public testing::WithParamInterface<bool> {
 protected:
  GpuPipeline() {
    has_peers_ = GetParam();
    driver_.set("peers", has_peers_ ? 1 : 0);
  }
};

INSTANTIATE_TEST_SUITE_P(Over, GpuPipeline, testing::Bool(),
                         [](const auto& info) { return info.param ? "Peers" : "TheHost"; });

TEST_P(GpuPipeline, HasTheBitsOfOneDeviceWhereverItIsCut) {
  for (const Cuts& cuts : {Cuts{0, 1}, Cuts{0, 3}, Cuts{0, 1, 2}, Cuts{0, 2, 3}})
    expect_bits_of_one_device(small_spec(kNumLayers), cuts);
}

TEST_P(GpuPipeline, MayStandBehindLayersOfTheProcessor) {
  for (const Cuts& cuts : {Cuts{1, 2}, Cuts{1, 2, 3}, Cuts{2, 3}})
    expect_bits_of_one_device(small_spec(kNumLayers), cuts);
}

TEST_F(GpuPipelineLayers, LookUpOnTheFirstDeviceWhatATiedHeadOnTheLastOneMultipliesWith) {
  DecoderSpec spec = small_spec();
  spec.head->is_tied = true;
  spec.embedding.scale = 0.5F;
  for (const StoredFormat format : {StoredFormat::bf16, StoredFormat::q4_0})
    expect_bits_of_one_device(spec, {0, 1}, format);
}

TEST_F(GpuPipelineLayers, AreOfEveryKindOnEveryDevice) {
  expect_bits_of_one_device(with_grouped_experts(small_spec(3)), {0, 1, 2});
  expect_bits_of_one_device(with_latents(small_spec(3), true), {0, 2});
  for (const NormPlacement placement : {NormPlacement::sandwich, NormPlacement::post}) {
    const DecoderSpec spec =
        with_every_layer(small_spec(3), [&](LayerSpec& layer) { layer.norm_placement = placement; });
    expect_bits_of_one_device(spec, {0, 1, 2});
  }
  DecoderSpec windows = small_spec(kNumLayers);
  windows.rope_tables.push_back(windows.rope_tables.front());
  for (double& frequency : windows.rope_tables.back().frequencies) frequency /= 8;
  windows.layers[3].attention.sliding_window = 7;
  windows.layers[3].attention.rope_table = 1;
  expect_bits_of_one_device(windows, {0, 1, 3});
}

TEST_F(GpuPipelineLayers, KeepKeysAndValuesInEveryTypeOfPages) {
  for (const KvDtype dtype : {KvDtype::int8, KvDtype::fp8})
    expect_bits_of_one_device(small_spec(), {0, 1}, StoredFormat::bf16, dtype);
}

TEST_P(GpuPipeline, PoolsWhatTheLastDeviceLeaves) {
  const RandomModel model(small_encoder(), StoredFormat::bf16);
  StepRunner one(gpu_request(model, 0));
  StepRunner several(pipeline_request(model, {0, 1}));
  const Request request{.tokens = random_tokens(45, 96, 5), .pooling = Pooling::mean, .second_segment = 20};
  const std::vector<float> expected = one.pooled(request, 64);
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(several.pooled(request, 64), expected);
}

TEST_P(GpuPipeline, RecordsTheLayersOfEachDevice) {
  const RandomModel model(small_spec(3), StoredFormat::bf16);
  StepRunner several(pipeline_request(model, {0, 1, 2}));
  StepRunner one(gpu_request(model, 0));
  EXPECT_EQ(several.generate({.tokens = {1, 2, 3}}, 12), one.generate({.tokens = {1, 2, 3}}, 12));
  EXPECT_EQ(count_on(0, "graph_execs"), 2);  // that of the one device, too
  EXPECT_EQ(count_on(1, "graph_execs"), 1);
  EXPECT_EQ(count_on(2, "graph_execs"), 1);
}

// A step of the sequences below: which part of a row, and whether a token is drawn behind it.
struct Part {
  int32_t row;
  int64_t start;
  int64_t count;
  bool samples;
};

// Tokens and their log-probabilities, as they came.
std::vector<std::pair<int32_t, float>> run_steps(StepRunner& runner,
                                                 const std::vector<std::vector<Part>>& steps) {
  std::vector<std::pair<int32_t, float>> drawn;
  for (size_t i = 0; i < steps.size(); ++i) {
    for (const Part& part : steps[i]) runner.compute(part.row, part.start, part.count, part.samples);
    EXPECT_EQ(runner.run(), 0) << "step " << i << ": " << runner.model().step_failure(0);
    for (size_t entry = 0; entry < steps[i].size(); ++entry)
      if (runner.token(entry) >= 0) drawn.emplace_back(runner.token(entry), runner.logprob(entry));
  }
  return drawn;
}

// Goal: pages mean the same on every device. Method: three requests prefill in pieces and decode together;
// then one has lost its pages and is computed anew beside the others, with tokens drawn at random.
TEST_P(GpuPipeline, FollowsRequestsThatComeAndArePreempted) {
  const RandomModel model(small_spec(kNumLayers), StoredFormat::q8_0);
  std::vector<std::vector<std::pair<int32_t, float>>> runs;
  for (const Cuts& cuts : {Cuts{0}, Cuts{0, 1, 3}}) {
    StepRunner runner(pipeline_request(model, cuts));
    const auto admit = [&](int32_t row, uint64_t seed) {
      runner.admit(row, {.tokens = random_tokens(30, 96, seed),
                         .sampling = {.temperature = 0.8F, .top_k = 20, .seed = seed, .num_logprobs = 1}});
    };
    for (int32_t row = 0; row < 3; ++row) admit(row, static_cast<uint64_t>(row));
    auto drawn = run_steps(runner, {{{0, 0, 30, true}, {1, 0, 17, false}},
                                    {{0, 30, 1, true}, {1, 17, 13, true}, {2, 0, 30, true}},
                                    {{0, 31, 1, true}, {1, 30, 1, true}, {2, 30, 1, true}},
                                    {{0, 32, 1, true}, {1, 31, 1, true}, {2, 31, 1, true}}});
    admit(1, 7);
    const auto rest = run_steps(runner, {{{0, 33, 1, true}, {1, 0, 19, false}, {2, 32, 1, true}},
                                         {{0, 34, 1, true}, {1, 19, 11, true}, {2, 33, 1, true}},
                                         {{0, 35, 1, true}, {1, 30, 1, true}, {2, 34, 1, true}}});
    drawn.insert(drawn.end(), rest.begin(), rest.end());
    runs.push_back(drawn);
  }
  EXPECT_EQ(runs[0].size(), 18U);
  EXPECT_EQ(runs[1], runs[0]);
}

TEST_P(GpuPipeline, AddsToEachDevicesLayersWhatAnAdapterHasForThem) {
  const DecoderSpec spec = small_spec(3);
  const RandomModel model(spec, StoredFormat::bf16);
  const RandomAdapter adapter(spec, 5, 21);
  const Request request{.tokens = random_tokens(30, 96, 8), .adapter = 1};
  std::vector<std::vector<int32_t>> texts;
  for (const Cuts& cuts : {Cuts{0}, Cuts{0, 1, 2}, Cuts{0, 2}}) {
    StepRunner runner(pipeline_request(model, cuts));
    runner.model().add_adapter(1, adapter.read());
    texts.push_back(runner.generate(request, 10, 11));
    std::vector<int64_t> taken;
    for (size_t i = 0; i < cuts.size(); ++i)
      taken.push_back(count_on(static_cast<int32_t>(i), "allocated_bytes"));
    runner.model().remove_adapter(1);
    for (size_t i = 0; i < cuts.size(); ++i)
      EXPECT_LT(count_on(static_cast<int32_t>(i), "allocated_bytes"), taken[i]) << "device " << i;
    texts.push_back(runner.generate({.tokens = request.tokens}, 10, 11));
    ASSERT_EQ(texts.back().size(), 10U);
  }
  EXPECT_NE(texts[0], texts[1]);
  for (size_t i = 2; i < texts.size(); ++i) EXPECT_EQ(texts[i], texts[i % 2]);
}

// Goal: every layer's weights and pages are on one device alone.
TEST_P(GpuPipeline, SharesTheMemoryOutAmongTheDevices) {
  const RandomModel model(small_spec(kNumLayers), StoredFormat::bf16);
  const ModelMemory on_one = StepRunner(gpu_request(model, 0)).model().memory();
  const StepRunner several(pipeline_request(model, {0, 1, 3}));
  const ModelMemory memory = several.shared_model()->memory();
  EXPECT_EQ(memory.device.kv_bytes, on_one.device.kv_bytes);
  EXPECT_EQ(memory.device.weight_bytes, on_one.device.weight_bytes);
  EXPECT_EQ(memory.host.weight_bytes, 0);
  EXPECT_EQ(memory.host.scratch_bytes > on_one.host.scratch_bytes, !GetParam());
  // The second has as many layers as the other two together; pages are most of what they take.
  EXPECT_GT(count_on(1, "allocated_bytes"), count_on(0, "allocated_bytes") + on_one.device.kv_bytes / 8);
  EXPECT_GT(count_on(1, "allocated_bytes"), count_on(2, "allocated_bytes") + on_one.device.kv_bytes / 8);
}

TEST_F(PipelineTest, GoesOverTheHostWhereADeviceHasPeersEnough) {
  constexpr int kTooManyPeers = 711;
  const RandomModel model(small_spec(3), StoredFormat::bf16);
  const std::vector<int32_t> expected = StepRunner(gpu_request(model, 0)).generate({.tokens = {1, 2, 3}}, 4);
  driver_.fail("cuCtxEnablePeerAccess", 2, kTooManyPeers);
  StepRunner several(pipeline_request(model, {0, 1, 2}));
  EXPECT_EQ(several.generate({.tokens = {1, 2, 3}}, 4), expected);
  EXPECT_EQ(driver_.count("peer_copies"), 4);  // of four steps, between the first two
}

// A processor has kernels for heads of any size.
TEST_F(PipelineTest, JudgesTheLayersOfTheDevicesAlone) {
  DecoderSpec spec = small_spec(3);
  spec.layers[0].attention.head_dim = spec.layers[0].attention.value_dim = 12;
  spec.rope_tables.front().rotary_dim = 8;
  spec.rope_tables.front().frequencies.resize(4);
  const RandomModel model(spec, StoredFormat::bf16);
  EXPECT_THROW(StepRunner(pipeline_request(model, {0, 1})), Error);
  StepRunner cpu(model, Place::cpu);
  StepRunner several(pipeline_request(model, {1, 2}));
  const std::vector<int32_t> tokens = random_tokens(45, 96, 3);
  EXPECT_LE(worst_row(several.logits(tokens, 13, 9), cpu.logits(tokens, 64), 96), kLogitTolerance);
}

}  // namespace
}  // namespace autoglm::test
