#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>

#include "runtime/philox.h"

namespace autoglm {
namespace {

constexpr size_t kLanes = 16;    // independent accumulators: four vectors of the baseline instruction set
constexpr size_t kBlock = 1024;  // weights per partial sum; a draw looks inside one block only

// Weights, relative to the likeliest token's 1, below which candidates are gathered only when those above do
// not suffice: most distributions are settled by the first level.
constexpr float kCandidateLevels[] = {0x1p-6F, 0x1p-12F, 0x1p-24F, FLT_MIN};

// exp(x) for x <= 0, relative error below 2e-7; 0 below -87, where floats run out. Plain arithmetic, so that
// the compiler vectorizes the loops around it. Source: Cephes expf (range reduction by log 2 in two parts,
// polynomial of degree 5).
inline float exp_of_nonpositive(float x) {
  constexpr float kLowest = -87.0F;
  constexpr float kRound = 0x1.8p23F;  // adding it rounds to an integer and leaves that in the low bits
  const float clamped = x < kLowest ? kLowest : x;
  const float shifted = clamped * 1.44269504F + kRound;
  const float whole = shifted - kRound;
  const float r = clamped - whole * 0.693359375F - whole * -2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float mantissa = p * r * r + r + 1.0F;
  const int32_t exponent = (std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound) + 127) << 23;
  return x < kLowest ? 0.0F : mantissa * std::bit_cast<float>(exponent);
}

// Largest logit; NaN when one is NaN or infinite.
float max_finite(std::span<const float> logits) {
  float largest[kLanes];
  float poison[kLanes];  // x * 0 is NaN exactly when x is not finite
  std::fill_n(largest, kLanes, -FLT_MAX);
  std::fill_n(poison, kLanes, 0.0F);
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = logits[i + lane];
      largest[lane] = x > largest[lane] ? x : largest[lane];
      poison[lane] += x * 0.0F;
    }
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    largest[0] = std::max(largest[0], logits[i]);
    poison[0] += logits[i] * 0.0F;
  }
  float result = largest[0] + poison[0];
  for (size_t lane = 1; lane < kLanes; ++lane) result = std::max(result, largest[lane]) + poison[lane];
  return result;
}

// Writes exp((logits - max_logit) / temperature) and returns its sum.
double exp_block(std::span<const float> logits, float max_logit, float temperature, float* weights) {
  float sums[kLanes] = {};
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float weight = exp_of_nonpositive((logits[i + lane] - max_logit) / temperature);
      weights[i + lane] = weight;
      sums[lane] += weight;
    }
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    weights[i] = exp_of_nonpositive((logits[i] - max_logit) / temperature);
    sums[i - whole] += weights[i];
  }
  double sum = 0;
  for (const float each : sums) sum += each;
  return sum;
}

int32_t first_index_of(std::span<const float> logits, float value) {
  return static_cast<int32_t>(std::ranges::find(logits, value) - logits.begin());
}

// The likeliest tokens by falling logit, equal ones by rising id.
void find_top(std::span<const float> logits, double normalizer, int32_t count, Sample& sample) {
  auto& top = sample.top;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (sample.num_top == count && !(logits[token] > top[static_cast<size_t>(count - 1)].logprob)) continue;
    int32_t at = sample.num_top < count ? sample.num_top++ : count - 1;
    for (; at > 0 && top[static_cast<size_t>(at - 1)].logprob < logits[token]; --at) {
      top[static_cast<size_t>(at)] = top[static_cast<size_t>(at - 1)];
    }
    top[static_cast<size_t>(at)] = {static_cast<int32_t>(token), logits[token]};
  }
  for (int32_t i = 0; i < sample.num_top; ++i) {
    float& value = top[static_cast<size_t>(i)].logprob;
    value = static_cast<float>(value - normalizer);
  }
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  const float max_logit = max_finite(logits);
  if (std::isnan(max_logit)) return std::numeric_limits<double>::quiet_NaN();
  float weights[kBlock];
  double sum = 0;
  for (size_t start = 0; start < logits.size(); start += kBlock) {
    sum += exp_block(logits.subspan(start, std::min(kBlock, logits.size() - start)), max_logit, 1, weights);
  }
  return max_logit + std::log(sum);
}

Sampler::Sampler(int64_t vocab_size)
    : weights_(static_cast<size_t>(vocab_size)), block_weights_((weights_.size() + kBlock - 1) / kBlock) {
  candidates_.reserve(weights_.size());
}

int64_t Sampler::scratch_bytes() const {
  return static_cast<int64_t>(weights_.size() * (sizeof(float) + sizeof(Candidate)));
}

Sample Sampler::sample(const Row& row, std::span<float> logits) {
  const SamplingParams& params = row.sampling();
  Sample result;
  float max_logit = max_finite(logits);
  result.is_numeric_error = std::isnan(max_logit);
  if (result.is_numeric_error) return result;
  double normalizer = 0;
  if (params.num_logprobs >= 0) normalizer = log_sum_exp(logits);
  if (params.num_logprobs > 0) {
    find_top(logits, normalizer, std::min<int32_t>(params.num_logprobs, static_cast<int32_t>(logits.size())),
             result);
  }
  adjusted_.clear();
  if (params.has_penalties() || !row.logit_bias().empty()) {
    adjust(row, logits);
    max_logit = max_finite(logits);
  }
  if (params.temperature == 0) {
    result.token = first_index_of(logits, max_logit);
  } else {
    const double uniform = uniform_draw(params.seed, static_cast<uint64_t>(row.num_tokens()));
    result.token = draw(params, logits, max_logit, uniform);
  }
  if (params.num_logprobs >= 0) {
    result.logprob = static_cast<float>(raw_logit(result.token, logits) - normalizer);
  }
  return result;
}

// Logit bias, then the penalties. Sources: repetition penalty, Keskar et al., "CTRL" (2019), section 4.1;
// presence and frequency penalties, OpenAI's API reference.
void Sampler::adjust(const Row& row, std::span<float> logits) {
  const SamplingParams& params = row.sampling();
  const auto change = [&](int32_t token, float value) {
    float& logit = logits[static_cast<size_t>(token)];
    adjusted_.emplace_back(token, logit);
    logit = std::clamp(value, -FLT_MAX, FLT_MAX);
  };
  for (const auto& [token, bias] : row.logit_bias()) change(token, logits[static_cast<size_t>(token)] + bias);
  for (const auto& [token, count] : row.token_counts()) {
    float logit = logits[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (count.num_in_output > 0) {
      logit -= params.presence_penalty;
      logit -= params.frequency_penalty * static_cast<float>(count.num_in_output);
    }
    change(token, logit);
  }
}

float Sampler::raw_logit(int32_t token, std::span<const float> logits) const {
  const auto first = std::ranges::find(adjusted_, token, &std::pair<int32_t, float>::first);
  return first == adjusted_.end() ? logits[static_cast<size_t>(token)] : first->second;
}

int32_t Sampler::draw(const SamplingParams& params, std::span<const float> logits, float max_logit,
                      double uniform) {
  double total_weight = 0;
  for (size_t block = 0; block < block_weights_.size(); ++block) {
    const size_t start = block * kBlock;
    block_weights_[block] = exp_block(logits.subspan(start, std::min(kBlock, logits.size() - start)),
                                      max_logit, params.temperature, &weights_[start]);
    total_weight += block_weights_[block];
  }
  const bool limits_count = params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size());
  if (!limits_count && params.top_p >= 1 && params.min_p <= 0) return draw_from_all(uniform * total_weight);

  gather_candidates(params, limits_count, total_weight);
  if (limits_count) {
    keep_top_k(params.top_k);
    total_weight = 0;
    for (const Candidate& candidate : candidates_) total_weight += candidate.weight;
  }
  if (params.top_p < 1) keep_top_p(params.top_p * total_weight);
  std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.weight < params.min_p; });
  double kept_weight = 0;
  for (const Candidate& candidate : candidates_) kept_weight += candidate.weight;
  double rest = uniform * kept_weight;
  for (const Candidate& candidate : candidates_) {
    rest -= candidate.weight;
    if (rest < 0) return candidate.token;
  }
  return candidates_.back().token;
}

int32_t Sampler::draw_from_all(double target) const {
  size_t block = 0;
  while (block + 1 < block_weights_.size() && target >= block_weights_[block])
    target -= block_weights_[block++];
  const size_t end = std::min((block + 1) * kBlock, weights_.size());
  for (size_t token = block * kBlock; token < end; ++token) {
    target -= weights_[token];
    if (target < 0) return static_cast<int32_t>(token);
  }
  // Rounding left a little over: the last token that can occur at all.
  size_t last = end - 1;
  while (last > 0 && weights_[last] <= 0) --last;
  return static_cast<int32_t>(last);
}

// Likeliest first, equal ones by token id: a total order, so that what is kept never depends on a sort's
// whims.
bool Sampler::Candidate::operator<(const Candidate& other) const {
  return weight != other.weight ? weight > other.weight : token < other.token;
}

// Collects every token that top-k and top-p could keep, usually a small part of the vocabulary.
void Sampler::gather_candidates(const SamplingParams& params, bool limits_count, double total_weight) {
  for (const float level : kCandidateLevels) {
    candidates_.clear();
    double mass = 0;
    for (size_t token = 0; token < weights_.size(); ++token) {
      if (weights_[token] < level) continue;
      candidates_.push_back({static_cast<int32_t>(token), weights_[token]});
      mass += weights_[token];
    }
    const bool suffices = limits_count       ? static_cast<int64_t>(candidates_.size()) >= params.top_k
                          : params.top_p < 1 ? mass >= params.top_p * total_weight
                                             : level <= params.min_p;
    if (suffices) return;
  }
}

void Sampler::keep_top_k(int64_t top_k) {
  if (top_k >= static_cast<int64_t>(candidates_.size())) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + (top_k - 1), candidates_.end());
  candidates_.resize(static_cast<size_t>(top_k));
}

// Keeps the smallest set of likeliest candidates that weighs at least `mass`: a search by halves, each of
// which partitions only the part that holds the border.
void Sampler::keep_top_p(double mass) {
  auto low = candidates_.begin();
  auto high = candidates_.end();
  while (high - low > 1) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high);
    double half = 0;
    for (auto each = low; each != middle; ++each) half += each->weight;
    if (half >= mass) {
      high = middle;
    } else {
      mass -= half;
      low = middle;
    }
  }
  candidates_.erase(high, candidates_.end());
}

}  // namespace autoglm
