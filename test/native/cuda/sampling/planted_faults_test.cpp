// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (planted.cmake), and a step that the kernels pass must fail with the copy.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "sampling_fixture.h"

namespace autoglm::test {
namespace {

struct Fault {
  const char* KernelNames::* kernel;
  const char* name;
};

constexpr Fault kFaults[] = {
    {&KernelNames::weigh, "planted_no_barrier_for_bins"},
    {&KernelNames::scan, "planted_no_barrier_for_tops"},
    {&KernelNames::weigh, "planted_early_sample_ticket"},
    {&KernelNames::weigh, "planted_wrong_sum_lane"},
    {&KernelNames::scan, "planted_wrong_mask_bit"},
    {&KernelNames::scan, "planted_counts_left"},
    {&KernelNames::count, "planted_prompt_as_output"},
    {&KernelNames::limit, "planted_border_off_by_one"},
    {&KernelNames::limit, "planted_border_cut_short"},
    {&KernelNames::limit, "planted_min_p_of_sure_ignored"},
    {&KernelNames::weigh, "planted_one_open_bin"},
    {&KernelNames::limit, "planted_list_half_filled"},
};

constexpr int64_t kVocab = 17'000;  // three slices

// One token of weight 1, then many equal ones: top-k ends among these, and where top-p does depends on how
// many.
std::vector<float> two_steps() {
  std::vector<float> logits(kVocab, -30.0f);
  for (int64_t token = 100; token < 1600; ++token) logits[token] = 1;
  logits[4000] = 1.1f;
  return logits;
}

std::vector<SampledCase> cases() {
  Random random(7000);
  std::vector<SampledCase> out;
  const SamplingParams settings[] = {
      {.temperature = 1, .seed = 1},
      {.temperature = 1, .seed = 2},
      {.temperature = 0, .num_logprobs = 20},
      {.temperature = 1, .top_k = 30, .seed = 3},
      {.temperature = 1, .top_k = 1, .seed = 3},
      {.temperature = 2, .top_k = 500, .min_p = 0.4f, .seed = 4},
      {.temperature = 0, .repetition_penalty = 1.1f, .presence_penalty = 50},
      {.temperature = 1, .top_p = 0.9f, .seed = 5},
      {.temperature = 3, .top_p = 0.6f, .seed = 7},
      {.temperature = 1, .top_k = 700, .top_p = 0.9f, .seed = 6},
  };
  for (const SamplingParams& params : settings) {
    SampledCase test;
    test.params = params;
    test.logits = params.top_p == 0.9f || params.top_k == 1 ? two_steps() : random.normals(kVocab, 2);
    const auto best = std::ranges::max_element(test.logits);
    if (params.has_penalties()) *best += 1;  // likeliest with the penalty of a token of the prompt, too
    test.history = {static_cast<int32_t>(best - test.logits.begin()), 5};
    test.num_prompt_tokens = 2;
    if (params.num_logprobs > 0) {  // few groups of threads have all of the likeliest tokens
      test.allowed.emplace(kVocab, false);
      for (int64_t token = 0; token < kVocab; ++token) {
        test.logits[token] = -1e-3f * static_cast<float>(token);
        (*test.allowed)[token] = token % 32 >= 16;
      }
    }
    out.push_back(std::move(test));
  }
  return out;
}

bool agrees(const Fault* fault, const emulator::Schedule& schedule) {
  SampledStep step(cases(), 0);
  KernelNames names;
  if (fault != nullptr) names.*(fault->kernel) = fault->name;
  try {
    step.run(schedule, names);
  } catch (const emulator::KernelFault&) {
    return false;
  }
  return step.difference().empty();
}

TEST(CudaSamplingPlantedFaults, ShowInEverySchedule) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    EXPECT_TRUE(agrees(nullptr, schedule));
    for (const Fault& fault : kFaults)
      EXPECT_FALSE(agrees(&fault, schedule)) << fault.name << ", order " << seed;
  }
}

}  // namespace
}  // namespace autoglm::test
#endif
