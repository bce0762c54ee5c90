#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "base/philox.h"
#include "runtime/sampler.h"

namespace autoglm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Row make_row(const SamplingParams& params, const std::vector<int32_t>& prompt = {0},
             const std::vector<int32_t>& logit_bias = {}) {
  AdmissionRecord record;
  record.sampling = params;
  record.tokens = prompt;
  record.num_prompt_tokens = static_cast<int32_t>(prompt.size());
  record.max_tokens = 1 << 20;
  record.logit_bias = logit_bias;
  Row row;
  row.admit(record, 1 << 20);
  return row;
}

Sample sample(const Row& row, std::vector<float> logits) {
  Sampler sampler(static_cast<int64_t>(logits.size()));
  return sampler.sample(row, {}, logits);
}

std::vector<float> random_logits(size_t count, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Probabilities after temperature, top-k, top-p and min-p in double and by a full sort: the definition.
std::vector<double> reference_distribution(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> weights(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    weights[i] = std::exp((double{logits[i]} - logits[order[0]]) / params.temperature);
  }
  if (params.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(params.top_k)));
  const auto sum = [&] {
    double total = 0;
    for (const size_t token : order) total += weights[token];
    return total;
  };
  const double mass = params.top_p * sum();
  size_t kept = 0;
  for (double reached = 0; kept < order.size() && (kept == 0 || reached < mass); ++kept) {
    reached += weights[order[kept]];
  }
  if (params.top_p < 1) order.resize(kept);
  std::erase_if(order, [&](size_t token) { return weights[token] < params.min_p; });
  std::vector<double> result(logits.size(), 0.0);
  const double total = sum();
  for (const size_t token : order) result[token] = weights[token] / total;
  return result;
}

// Draws at many positions must follow the reference: never a token of probability 0, and frequencies within
// five standard deviations.
void expect_distribution(const std::vector<float>& logits, const SamplingParams& params) {
  constexpr int kDraws = 20'000;
  const std::vector<double> expected = reference_distribution(logits, params);
  Row row = make_row(params);
  Sampler sampler(static_cast<int64_t>(logits.size()));
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> copy = logits;
    const Sample drawn = sampler.sample(row, {}, copy);
    ASSERT_GE(drawn.token, 0);
    ++counts[static_cast<size_t>(drawn.token)];
    row.append(0);
  }
  for (size_t token = 0; token < logits.size(); ++token) {
    const double p = expected[token];
    const double deviation = std::sqrt(kDraws * p * (1 - p));
    EXPECT_NEAR(counts[token], kDraws * p, p == 0 ? 0 : 5 * deviation + 1)
        << "token " << token << ", p " << p;
  }
}

TEST(Philox, MatchesThePublishedVectors) {
  // Source: Random123 1.14, kat_vectors, philox4x32 10.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Sampler, GreedyTakesTheFirstOfEqualMaxima) {
  EXPECT_EQ(sample(make_row({.temperature = 0}), {1, 5, 3, 5}).token, 1);
}

TEST(Sampler, ReportsNonFiniteLogitsAsNumericError) {
  for (const float poison : {std::nanf(""), kInfinity, -kInfinity}) {
    for (size_t at = 0; at < 41; ++at) {
      std::vector<float> logits = random_logits(41, 3, 1);
      logits[at] = poison;
      EXPECT_TRUE(sample(make_row({.temperature = 0}), logits).is_numeric_error) << poison << " at " << at;
      EXPECT_TRUE(sample(make_row({.temperature = 1}), logits).is_numeric_error) << poison << " at " << at;
    }
  }
  EXPECT_FALSE(sample(make_row({.temperature = 1}), random_logits(41, 3, 1)).is_numeric_error);
}

TEST(Sampler, AddsLogitBias) {
  const int32_t bias = std::bit_cast<int32_t>(3.0F);
  EXPECT_EQ(sample(make_row({.temperature = 0}, {0}, {2, bias}), {1, 2, 0.5F}).token, 2);
}

// CTRL: positive logits are divided, negative ones multiplied, for tokens of prompt and output alike.
TEST(Sampler, RepetitionPenaltyCoversPromptAndOutput) {
  const SamplingParams params{.temperature = 0, .repetition_penalty = 1.5F};
  EXPECT_EQ(sample(make_row(params, {0}), {3.0F, 2.1F, 0}).token, 1);  // 3 / 1.5 < 2.1
  EXPECT_EQ(sample(make_row(params, {0}), {3.3F, 2.1F, 0}).token, 0);  // 3.3 / 1.5 > 2.1
  EXPECT_EQ(sample(make_row(params, {0}), {-2.0F, -2.9F}).token, 1);   // -2 * 1.5 < -2.9
  Row row = make_row(params, {2});
  row.append(0);
  EXPECT_EQ(sample(row, {3.0F, 2.1F, 0}).token, 1);
}

TEST(Sampler, PresenceAndFrequencyPenaltiesCoverTheOutputAlone) {
  const SamplingParams presence{.temperature = 0, .presence_penalty = 1};
  EXPECT_EQ(sample(make_row(presence, {0}), {3.0F, 2.5F}).token, 0);
  Row row = make_row(presence, {1});
  row.append(0);
  row.append(0);
  EXPECT_EQ(sample(row, {3.0F, 2.5F}).token, 1);
  EXPECT_EQ(sample(row, {3.6F, 2.5F}).token, 0);  // once, however often the token occurs

  Row counted = make_row({.temperature = 0, .frequency_penalty = 0.4F}, {1});
  counted.append(0);
  EXPECT_EQ(sample(counted, {3.0F, 2.5F}).token, 0);
  counted.append(0);
  EXPECT_EQ(sample(counted, {3.0F, 2.5F}).token, 1);  // 3 - 2 * 0.4 < 2.5
}

TEST(Sampler, PenaltiesKeepExtremeLogitsFinite) {
  const SamplingParams params{.temperature = 1, .repetition_penalty = 1e-4F};
  const Sample drawn = sample(make_row(params, {0}), {3e38F, 1, 0});
  EXPECT_FALSE(drawn.is_numeric_error);
  EXPECT_EQ(drawn.token, 0);
}

TEST(Sampler, DrawsFromTheWholeSoftmaxWithoutLimits) {
  expect_distribution({0.1F, 1.2F, -0.3F, 0.7F, 2.0F}, {.temperature = 0.8F, .seed = 1});
  // More than two blocks of the partial sums, and a part of a third.
  std::vector<float> wide(2500, -30.0F);
  for (const size_t token : {3, 1023, 1024, 2047, 2048, 2499}) wide[token] = 1;
  expect_distribution(wide, {.temperature = 1, .seed = 2});
}

TEST(Sampler, LimitsAgreeWithASortInDouble) {
  const std::vector<float> logits = random_logits(40, 5, 1.5F);
  expect_distribution(logits, {.temperature = 1, .top_k = 5, .seed = 3});
  expect_distribution(logits, {.temperature = 1.3F, .top_p = 0.7F, .seed = 4});
  expect_distribution(logits, {.temperature = 0.9F, .min_p = 0.2F, .seed = 5});
  expect_distribution(logits, {.temperature = 1, .top_k = 12, .top_p = 0.8F, .min_p = 0.1F, .seed = 6});
  expect_distribution(logits, {.temperature = 1, .top_k = 40, .top_p = 0.999F, .seed = 7});
}

// Wide and flat distributions need candidates far below the likeliest token.
TEST(Sampler, LimitsHoldWhereTheLikeliestTokensAreNotEnough) {
  std::vector<float> logits(3000, 0.0F);
  logits[2999] = 9;
  const SamplingParams params{.temperature = 1, .top_k = 2000, .seed = 8};
  Row row = make_row(params);
  Sampler sampler(3000);
  std::set<int32_t> seen;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<float> copy = logits;
    seen.insert(sampler.sample(row, {}, copy).token);
    row.append(0);
  }
  EXPECT_TRUE(seen.contains(2999));
  EXPECT_GT(seen.size(), 1000U);
  seen.erase(2999);
  EXPECT_LT(*seen.rbegin(), 1999);  // of equal ones the 1999 with the lowest ids
}

TEST(Sampler, TopPOfZeroAndTopKOfOneLeaveTheLikeliestToken) {
  const std::vector<float> logits = random_logits(300, 9, 1);
  const auto best = static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  Row row = make_row({.temperature = 2, .top_p = 0, .seed = 1});
  Row single = make_row({.temperature = 2, .top_k = 1, .seed = 1});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(sample(row, logits).token, best);
    EXPECT_EQ(sample(single, logits).token, best);
    row.append(0);
    single.append(0);
  }
}

TEST(Sampler, TinyTemperaturesAreGreedy) {
  const std::vector<float> logits{1, 1.001F, 0.5F};
  EXPECT_EQ(sample(make_row({.temperature = 1e-30F, .seed = 4}), logits).token, 1);
}

TEST(Sampler, TheDrawDependsOnSeedAndPositionAlone) {
  const std::vector<float> logits = random_logits(500, 21, 1);
  const auto tokens = [&](uint64_t seed) {
    Row row = make_row({.temperature = 1, .seed = seed});
    std::vector<int32_t> result;
    for (int i = 0; i < 20; ++i) {
      result.push_back(sample(row, logits).token);
      row.append(result.back());
    }
    return result;
  };
  EXPECT_EQ(tokens(5), tokens(5));
  EXPECT_NE(tokens(5), tokens(6));
  EXPECT_NE(tokens(5), tokens(uint64_t{5} | uint64_t{1} << 40));
  // A request that comes back after a preemption with two tokens of output goes on as it would have.
  std::vector<int32_t> history{0, tokens(5)[0], tokens(5)[1]};
  const Row resumed = make_row({.temperature = 1, .seed = 5}, history);
  EXPECT_EQ(sample(resumed, logits).token, tokens(5)[2]);
}

// Goal: what is sampled behind drafts is what would be sampled had they been appended, bit for bit.
TEST(Sampler, DraftsCountAsIfTheyHadBeenAppended) {
  const std::vector<float> logits = random_logits(400, 51, 1);
  const std::vector<int32_t> drafts{17, 9, 17, 3, 200, 9};  // old and new tokens, some of them twice
  const SamplingParams settings[] = {
      {.temperature = 0, .num_logprobs = 5},
      {.temperature = 1, .seed = 3, .num_logprobs = 5},
      {.temperature = 0.8F, .top_k = 50, .top_p = 0.9F, .repetition_penalty = 1.7F, .seed = 4},
      {.temperature = 1.5F,
       .presence_penalty = 1.5F,
       .frequency_penalty = 1.5F,
       .seed = 5,
       .num_logprobs = 3},
      {.temperature = 0, .repetition_penalty = 3, .presence_penalty = 2, .frequency_penalty = 2},
  };
  for (const SamplingParams& params : settings) {
    const std::vector<int32_t> bias{17, std::bit_cast<int32_t>(4.0F), 3, std::bit_cast<int32_t>(5.0F)};
    const Row drafted = make_row(params, {5, 9, 3}, bias);
    Row appended = make_row(params, {5, 9, 3}, bias);
    Sampler sampler(static_cast<int64_t>(logits.size()));
    for (size_t count = 0; count <= drafts.size(); ++count) {
      std::vector<float> copy = logits;
      const Sample found = sampler.sample(drafted, std::span(drafts).first(count), copy);
      const Sample expected = sample(appended, logits);
      EXPECT_EQ(found.token, expected.token) << count << " drafts, seed " << params.seed;
      EXPECT_EQ(std::bit_cast<int32_t>(found.logprob), std::bit_cast<int32_t>(expected.logprob));
      EXPECT_EQ(found.num_top, expected.num_top);
      if (count < drafts.size()) appended.append(drafts[count]);
    }
  }
}

// Log-probabilities are the model's own: neither temperature nor penalties nor bias change them.
TEST(Sampler, LogprobsAreTheLogSoftmaxOfTheRawLogits) {
  const std::vector<float> logits = random_logits(1500, 31, 2);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  const SamplingParams params{.temperature = 0.7F,
                              .repetition_penalty = 1.3F,
                              .presence_penalty = 0.5F,
                              .seed = 2,
                              .num_logprobs = 20};
  Row row = make_row(params, {5, 6, 7}, {9, std::bit_cast<int32_t>(60.0F)});
  row.append(9);
  const Sample drawn = sample(row, logits);
  EXPECT_EQ(drawn.token, 9);  // the bias decides
  EXPECT_NEAR(drawn.logprob, logits[9] - std::log(sum), 1e-5);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  ASSERT_EQ(drawn.num_top, 20);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(drawn.top[i].token, order[i]) << "rank " << i;
    EXPECT_NEAR(drawn.top[i].logprob, logits[static_cast<size_t>(order[i])] - std::log(sum), 1e-5)
        << "rank " << i;
  }
  EXPECT_EQ(sample(make_row({.temperature = 0, .num_logprobs = 0}), logits).num_top, 0);
}

TEST(Sampler, MoreAlternativesThanTokensGivesAllTokens) {
  EXPECT_EQ(sample(make_row({.temperature = 0, .num_logprobs = 20}), {1, 2, 3}).num_top, 3);
}

TEST(LogSumExp, AgreesWithDoubleOverTheWholeRange) {
  for (const float deviation : {0.01F, 1.0F, 20.0F}) {
    const std::vector<float> logits = random_logits(5003, 41, deviation);
    const float largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double{logit} - largest);
    EXPECT_NEAR(log_sum_exp(logits), largest + std::log(sum), 2e-6) << "deviation " << deviation;
  }
  EXPECT_TRUE(std::isnan(log_sum_exp(std::vector<float>{1, kInfinity})));
}

}  // namespace
}  // namespace autoglm
