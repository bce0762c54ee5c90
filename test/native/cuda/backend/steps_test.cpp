// Requests in company on a GPU: batches, chunks, preemption, guesses, and tokens drawn on the device.
#include <gtest/gtest.h>

#include "runtime/sampler.h"
#include "step_runner.h"

namespace autoglm::test {
namespace {

constexpr int64_t kNumNew = 10;

std::vector<Request> some_requests(size_t count) {
  std::vector<Request> requests(count);
  for (size_t i = 0; i < count; ++i) requests[i].tokens = random_tokens(5 + 13 * i % 40, 96, 100 + i);
  return requests;
}

// Sharpened, so that the likeliest token leads by more than bfloat16 rounds.
DecoderSpec decisive_spec() {
  DecoderSpec spec = small_spec();
  spec.head->scale = 4;
  return spec;
}

// Whether the likeliest token of a row leads by more than what bfloat16 rounds.
bool is_clear(std::span<const float> logits) {
  std::vector<float> sorted(logits.begin(), logits.end());
  std::ranges::sort(sorted, std::ranges::greater{});
  double squares = 0;
  for (const float each : logits) squares += double{each} * double{each};
  const double rounding = kLogitTolerance * std::sqrt(squares / static_cast<double>(logits.size()));
  return sorted[0] - sorted[1] > 4 * rounding;
}

// Goal: greedy tokens are the CPU's wherever the CPU's likeliest token leads clearly. Method: the CPU
// generates; both compute the logits of that text; the GPU's own text is the same up to the first place that
// is not clear.
TEST(GpuSteps, TakeTheTokensOfTheCpuWhereItsMarginIsClear) {
  const RandomModel model(decisive_spec(), StoredFormat::bf16);
  StepRunner cpu(model, Place::cpu);
  StepRunner gpu(model, Place::gpu);
  int num_clear = 0;
  for (const Request& request : some_requests(4)) {
    const std::vector<int32_t> expected = cpu.generate(request, kNumNew);
    const std::vector<int32_t> generated = gpu.generate(request, kNumNew);
    std::vector<int32_t> text = request.tokens;
    text.insert(text.end(), expected.begin(), expected.end() - 1);
    const std::vector<float> logits = cpu.logits(text, 64);
    const std::vector<float> found = gpu.logits(text, 64);
    ASSERT_EQ(found.size(), logits.size());
    bool is_same_text = true;
    for (size_t i = 0; i < text.size(); ++i) {
      const std::span<const float> row(&logits[i * 96], 96);
      const std::span<const float> found_row(&found[i * 96], 96);
      const bool is_new = i + 1 >= request.tokens.size();
      is_same_text &= !is_new || is_clear(row);
      if (!is_clear(row)) continue;
      ++num_clear;
      EXPECT_EQ(std::ranges::max_element(found_row) - found_row.begin(),
                std::ranges::max_element(row) - row.begin())
          << "position " << i;
      if (!is_new || !is_same_text) continue;
      const size_t nth = i + 1 - request.tokens.size();
      EXPECT_EQ(generated[nth], expected[nth]) << "token " << nth;
    }
  }
  EXPECT_GT(num_clear, 60);
}

class GpuStepsOfLayers : public testing::TestWithParam<int32_t> {};
INSTANTIATE_TEST_SUITE_P(From, GpuStepsOfLayers, testing::Values(0, 1));

// Layers before the parameter are the processor's.
TEST_P(GpuStepsOfLayers, GiveARequestTheSameTokensInABatchAsAlone) {
  const RandomModel model(decisive_spec(), StoredFormat::q4_0);
  StepRunner gpu(gpu_request(model, GetParam()));
  const std::vector<Request> requests = some_requests(6);
  std::vector<std::vector<int32_t>> alone;
  for (const Request& request : requests) alone.push_back(gpu.generate(request, kNumNew));

  std::vector<std::vector<int32_t>> found(requests.size());
  std::vector<int64_t> computed(requests.size(), 0);
  // One after the other they join, prompts in pieces of 11, while the others decode.
  for (int64_t step = 0; std::ranges::any_of(found, [](const auto& each) { return each.size() < kNumNew; });
       ++step) {
    ASSERT_LT(step, 200);
    std::vector<size_t> in_step;
    for (size_t i = 0; i < requests.size() && static_cast<int64_t>(i) * 2 <= step; ++i) {
      const auto num_prompt = static_cast<int64_t>(requests[i].tokens.size());
      if (found[i].size() >= kNumNew) continue;
      if (computed[i] == 0) gpu.admit(static_cast<int32_t>(i), requests[i]);
      const int64_t known = num_prompt + static_cast<int64_t>(found[i].size());
      const int64_t count = std::min<int64_t>(11, known - computed[i]);
      gpu.compute(static_cast<int32_t>(i), computed[i], count, computed[i] + count == known);
      computed[i] += count;
      in_step.push_back(i);
    }
    ASSERT_EQ(gpu.run(), 0) << "step " << step;
    for (size_t entry = 0; entry < in_step.size(); ++entry) {
      if (gpu.token(entry) >= 0) found[in_step[entry]].push_back(gpu.token(entry));
    }
  }
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(found[i], alone[i]) << "request " << i;
}

// After preemption a request comes back with its tokens, to other pages, and computes them anew.
TEST_P(GpuStepsOfLayers, ContinueAPreemptedRequest) {
  const RandomModel model(decisive_spec(), StoredFormat::bf16);
  StepRunner gpu(gpu_request(model, GetParam()));
  Request request = some_requests(3).back();
  const std::vector<int32_t> expected = gpu.generate(request, kNumNew);
  std::vector<int32_t> found = gpu.generate(request, 4);
  request.tokens.insert(request.tokens.end(), found.begin(), found.end());
  const std::vector<int32_t> rest = gpu.generate(request, kNumNew - 4, 9);
  found.insert(found.end(), rest.begin(), rest.end());
  EXPECT_EQ(found, expected);
}

TEST_P(GpuStepsOfLayers, CheckGuessedTokens) {
  const RandomModel model(decisive_spec(), StoredFormat::bf16);
  StepRunner gpu(gpu_request(model, GetParam()));
  const Request request = some_requests(2).back();
  const auto num_prompt = static_cast<int64_t>(request.tokens.size());
  const std::vector<int32_t> expected = gpu.generate(request, 5);
  gpu.admit(0, request);
  // Two right guesses, then a wrong one.
  gpu.compute(0, 0, num_prompt + 3, true, {expected[0], expected[1], (expected[2] + 1) % 96});
  ASSERT_EQ(gpu.run(), 0);
  EXPECT_EQ(gpu.token(0), expected[0]);
  EXPECT_EQ(gpu.token(1), expected[1]);
  EXPECT_EQ(gpu.token(2), expected[2]);
  EXPECT_EQ(gpu.token(3), -1);
  gpu.compute(0, num_prompt + 2, 1, true);
  ASSERT_EQ(gpu.run(), 0);
  EXPECT_EQ(gpu.token(), expected[3]);
}

// Goal: what the device draws is what the host's sampler draws from the same logits. Method: one prompt, the
// logits of its last position as an evaluation, and the settings in turn.
TEST(GpuSteps, DrawTheTokensOfTheHostsSampler) {
  DecoderSpec spec = small_spec();
  spec.head->soft_cap = 4.0F;
  const RandomModel model(spec, StoredFormat::bf16);
  StepRunner gpu(model, Place::gpu);
  Request request{.tokens = random_tokens(20, 96, 9)};
  const std::vector<float> logits = gpu.logits(request.tokens, 64);
  ASSERT_FALSE(logits.empty());
  const std::vector<SamplingParams> settings = {
      {.temperature = 0, .num_logprobs = 3},
      {.temperature = 0.8F, .num_logprobs = 0},
      {.temperature = 1.2F, .top_k = 7},
      {.temperature = 1, .top_p = 0.8F},
      {.temperature = 1.5F, .min_p = 0.1F},
      {.temperature = 1, .repetition_penalty = 1.4F, .presence_penalty = 0.3F, .frequency_penalty = 0.2F}};
  for (size_t i = 0; i < settings.size(); ++i) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      request.sampling = settings[i];
      request.sampling.seed = seed;
      Row row;
      AdmissionRecord admission;
      admission.num_prompt_tokens = 20;
      admission.max_tokens = 9;
      admission.sampling = request.sampling;
      admission.tokens = request.tokens;
      row.admit(admission, spec.context_length);
      std::vector<float> copy(logits.end() - 96, logits.end());
      const Sample expected = Sampler(96).sample(row, {}, copy);
      gpu.admit(0, request);
      gpu.compute(0, 0, 20, true);
      ASSERT_EQ(gpu.run(), 0);
      EXPECT_EQ(gpu.token(), expected.token) << "settings " << i << ", seed " << seed;
      if (request.sampling.num_logprobs < 0) continue;
      EXPECT_NEAR(gpu.logprob(), expected.logprob, 1e-4) << "settings " << i;
      EXPECT_EQ(gpu.result(0, abi::ResultRow::numTop), expected.num_top);
      for (int32_t top = 0; top < expected.num_top; ++top) {
        EXPECT_EQ(gpu.result(0, abi::ResultRow::tops + top), expected.top[static_cast<size_t>(top)].token);
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::test
