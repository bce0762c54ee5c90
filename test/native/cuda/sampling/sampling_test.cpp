// The sampling kernels against the sampler of the CPU: the same tokens from the same logits.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/step_records.h"
#include "sampling_fixture.h"

namespace autoglm::test {
namespace {

static_assert(cuda::kMaxTopTokens == abi::Limits::maxLogprobs);

template <typename T, size_t kCount>
T any_of(Random& random, const T (&values)[kCount]) {
  return values[random.below(kCount)];
}

// Sizes around those of loads, warps, lists and slices, and any others.
int64_t random_vocab(Random& random) {
  const int64_t edges[] = {1,   2,    3,    4,    5,    31,   32,    33,    511,  512,
                           513, 2047, 2049, 8191, 8192, 8193, 16384, 16389, 24577};
  return random.below(3) == 0 ? any_of(random, edges) : 1 + random.below(3000);
}

std::vector<float> random_logits(Random& random, int64_t count) {
  const float deviations[] = {0.02f, 1, 1, 3, 10};
  std::vector<float> logits = random.normals(count, any_of(random, deviations));
  switch (random.below(6)) {
    case 0:  // ties
      for (float& each : logits) each = std::round(each);
      break;
    case 1:  // a few tokens have nearly all of the mass
      for (int i = 0; i < 5; ++i) logits[random.below(count)] += 12;
      break;
    case 2:
      if (random.below(3) == 0) std::ranges::fill(logits, 0.5f);
      break;
    default:
      break;
  }
  const float offset = any_of(random, {-20.0f, 0.0f, 7.0f});
  for (float& each : logits) each += offset;
  return logits;
}

void randomize_limits(Random& random, int64_t vocab, SamplingParams& params) {
  params.temperature = any_of(random, {0.0f, 1e-30f, 0.3f, 0.8f, 1.0f, 1.0f, 1.7f, 40.0f});
  if (random.below(2) == 0) {
    const int64_t counts[] = {1, 2, 5, 40, 300, vocab - 1, vocab, vocab + 1};
    params.top_k = static_cast<int32_t>(any_of(random, counts));
  }
  if (random.below(2) == 0) params.top_p = any_of(random, {0.0f, 1e-6f, 0.1f, 0.5f, 0.9f, 0.95f, 0.999f});
  if (random.below(3) == 0) params.min_p = any_of(random, {1e-13f, 0.001f, 0.05f, 0.5f, 1.0f});
}

void randomize_penalties(Random& random, SamplingParams& params) {
  if (random.below(2) == 0) params.repetition_penalty = any_of(random, {0.5f, 1.1f, 2.0f});
  if (random.below(2) == 0) params.presence_penalty = any_of(random, {-1.0f, 0.5f, 1.5f});
  if (random.below(2) == 0) params.frequency_penalty = any_of(random, {-0.5f, 0.3f, 2.0f});
}

void forbid_some(Random& random, SampledCase& test) {
  const auto count = static_cast<int64_t>(test.logits.size());
  test.allowed.emplace(test.logits.size(), false);
  const int64_t density = any_of(random, {0, 1, 50, 99});
  for (int64_t i = 0; i < count; ++i) (*test.allowed)[i] = random.below(100) < density;
  if (random.below(2) == 0) (*test.allowed)[random.below(count)] = true;
}

SampledCase random_case(Random& random, int64_t vocab) {
  SampledCase test;
  test.logits = random_logits(random, vocab);
  randomize_limits(random, vocab, test.params);
  test.params.seed = random.next();
  test.params.num_logprobs = any_of(random, {-1, -1, 0, 1, 5, 20});
  const int64_t num_tokens = 1 + random.below(60);
  test.num_prompt_tokens = static_cast<int32_t>(1 + random.below(num_tokens));
  for (int64_t i = 0; i < num_tokens; ++i)
    test.history.push_back(static_cast<int32_t>(random.below(std::min<int64_t>(vocab, 20)) *
                                                std::max<int64_t>(1, vocab / 20) % vocab));
  if (random.below(3) == 0) randomize_penalties(random, test.params);
  if (random.below(4) == 0) {
    for (int64_t token = random.below(3); token < vocab; token += 1 + random.below(vocab)) {
      test.biases.push_back({static_cast<int32_t>(token), any_of(random, {-100.0f, -2.0f, 3.0f, 100.0f})});
    }
  }
  if (random.below(4) == 0) forbid_some(random, test);
  if (!test.allowed && random.below(8) == 0) test.given_token = static_cast<int32_t>(random.below(vocab));
  if (random.below(16) == 0) test.logits[random.below(vocab)] = any_of(random, {NAN, INFINITY, -INFINITY});
  return test;
}

TEST(CudaSampling, DrawsTheTokensOfTheCpuOnRandomShapes) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(8000 + i);
    const int64_t vocab = random_vocab(random);
    std::vector<SampledCase> cases;
    const int64_t num_rows = vocab > 4000 ? 1 + random.below(2) : 1 + random.below(4);
    for (int64_t row = 0; row < num_rows; ++row) cases.push_back(random_case(random, vocab));
    SampledStep step(std::move(cases), random.below(5) == 0 ? 8.0f : 0.0f);
    step.run(schedule_of(i));
    ASSERT_EQ(step.difference(), "");
  }
}

SampledCase plain_case(std::vector<float> logits, const SamplingParams& params) {
  SampledCase test;
  test.logits = std::move(logits);
  test.params = params;
  test.history = {0};
  test.num_prompt_tokens = 1;
  return test;
}

std::string difference_of(std::vector<SampledCase> cases, const emulator::Schedule& schedule) {
  SampledStep step(std::move(cases), 0);
  step.run(schedule);
  return step.difference();
}

// More equal logits than a list holds: the borders are found in the row itself, by ids.
TEST(CudaSampling, TiesOfMoreTokensThanAListHoldsAreBrokenById) {
  constexpr uint64_t kNumSeeds = emulator::kIsSanitized ? 1 : 3;
  for (const int64_t vocab : {3000, 20'000}) {
    std::vector<SampledCase> cases;
    for (uint64_t seed = 0; seed < kNumSeeds; ++seed) {
      cases.push_back(
          plain_case(std::vector<float>(vocab, 1.0f), {.top_k = 2500, .top_p = 0.5f, .seed = seed}));
      std::vector<float> logits(vocab, 1.0f);
      logits[vocab / 2] = 9;
      cases.push_back(plain_case(logits, {.top_k = 2100, .seed = seed}));
      cases.push_back(plain_case(logits, {.top_p = 0.3f, .min_p = 1e-4f, .seed = seed}));
    }
    EXPECT_EQ(difference_of(std::move(cases), schedule_of(vocab)), "");
  }
}

// One token more or less would show in some of so many draws.
TEST(CudaSampling, TheSmallestSetsOfEachLimitAgreeOverManySeeds) {
  constexpr uint64_t kNumSeeds = emulator::kIsSanitized ? 4 : 40;
  Random random(1);
  const std::vector<float> logits = random.normals(60, 1.5f);
  const SamplingParams settings[] = {{.top_k = 3},
                                     {.top_p = 0.4f},
                                     {.min_p = 0.4f},
                                     {.temperature = 2, .top_k = 9, .top_p = 0.5f, .min_p = 0.3f},
                                     {.temperature = 2}};
  for (SamplingParams params : settings) {
    std::vector<SampledCase> cases;
    for (params.seed = 0; params.seed < kNumSeeds; ++params.seed) cases.push_back(plain_case(logits, params));
    EXPECT_EQ(difference_of(std::move(cases), schedule_of(2)), "");
  }
}

TEST(CudaSampling, FindsTheFirstOfEqualMaximaAsGreedyAndWithATopKOfOne) {
  std::vector<float> logits(9000, -1.0f);
  for (const size_t token : {700, 701, 8999}) logits[token] = 3;
  for (const SamplingParams& params :
       {SamplingParams{.temperature = 0}, SamplingParams{.top_k = 1}, SamplingParams{.top_p = 0}}) {
    SampledStep step({plain_case(logits, params)}, 0);
    step.run(schedule_of(0));
    EXPECT_EQ(step.difference(), "");
    EXPECT_EQ(step.sampled()[0].token, 700);
  }
}

TEST(CudaSampling, GreedyStepsLaunchOneKernel) {
  const SampledStep greedy({plain_case({1, 2}, {.temperature = 0})}, 0);
  EXPECT_EQ(cuda::sampling_count_launch(greedy.args()).kernel, nullptr);
  EXPECT_NE(cuda::sampling_scan_launch(greedy.args()).kernel, nullptr);
  EXPECT_EQ(cuda::sampling_weigh_launch(greedy.args()).kernel, nullptr);
  EXPECT_EQ(cuda::sampling_limit_launch(greedy.args()).kernel, nullptr);
  const SampledStep plain({plain_case({1, 2}, {.temperature = 1})}, 0);
  EXPECT_NE(cuda::sampling_weigh_launch(plain.args()).kernel, nullptr);
  EXPECT_EQ(cuda::sampling_limit_launch(plain.args()).kernel, nullptr);
}

// Goal: a workspace serves one step after another. Method: the same step three times; logits stay as they are
// without a soft cap.
TEST(CudaSampling, AWorkspaceIsLeftAsItWasFound) {
  Random random(77);
  std::vector<SampledCase> cases;
  for (int row = 0; row < 6; ++row) cases.push_back(random_case(random, 900));
  for (SampledCase& test : cases) test.params.frequency_penalty = 1;
  SampledStep step(std::move(cases), 0);
  for (uint64_t turn = 0; turn < 3; ++turn) {
    step.run(schedule_of(turn));
    EXPECT_EQ(step.difference(), "") << "step " << turn;
  }
}

TEST(CudaSampling, CapsLogitsInPlace) {
  SampledStep step({plain_case({-3, 0, 4, 100}, {.temperature = 0, .num_logprobs = 4})}, 5);
  step.run(schedule_of(0));
  EXPECT_EQ(step.difference(), "");
  EXPECT_FLOAT_EQ(step.args().logits[2], 5 * std::tanh(0.8f));
  EXPECT_FLOAT_EQ(step.args().logits[3], 5);
}

TEST(CudaGatherTokens, TakesGivenAndSampledTokens) {
  for (int count = 0; count <= 600; count += 100) {
    Random random(count);
    std::vector<cuda::SampledRow> sampled(7);
    for (cuda::SampledRow& each : sampled) each.token = static_cast<int32_t>(random.below(1000));
    sampled[3].token = -1;
    std::vector<int32_t> sources;
    std::vector<int32_t> given;
    std::vector<int32_t> expected;
    for (int i = 0; i < count; ++i) {
      sources.push_back(static_cast<int32_t>(random.below(9)) - 2);
      given.push_back(static_cast<int32_t>(random.below(1000)));
      expected.push_back(sources[i] < 0 ? given[i] : std::max(0, sampled[sources[i]].token));
    }
    std::vector<int32_t> ids(count, -5);
    const cuda::GatherTokensArgs args{sources.data(), given.data(), sampled.data(), ids.data(), count};
    launch(cuda::gather_tokens_launch(args), args, schedule_of(count));
    EXPECT_EQ(ids, expected);
  }
}

}  // namespace
}  // namespace autoglm::test
