#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/philox.h"

namespace autoglm {
namespace {

// Four floats at a time, by the compilers' portable vector types: left to itself GCC 12 keeps these loops
// scalar.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
constexpr size_t kWidth = 4;
constexpr size_t kVectors = 4;  // independent accumulators
constexpr size_t kStride = kWidth * kVectors;

Floats load(const float* values) {
  Floats result;
  std::memcpy(&result, values, sizeof(result));
  return result;
}
void store(float* values, Floats vector) { std::memcpy(values, &vector, sizeof(vector)); }
Floats broadcast(float value) { return Floats{value, value, value, value}; }

constexpr size_t kBlock = 1024;  // weights per partial sum; a draw looks inside one block only

// Weights, relative to the likeliest token's 1, below which candidates are gathered only when those above do
// not suffice: most distributions are settled by the first level.
constexpr float kCandidateLevels[] = {0x1p-6F, 0x1p-12F, 0x1p-24F, FLT_MIN};

// exp(x) for x <= 0, relative error below 2e-7; 0 below -87, where floats run out.
// Source: Cephes expf (range reduction by log 2 in two parts, polynomial of degree 5).
inline Floats exp_of_nonpositive(Floats x) {
  const Floats lowest = broadcast(-87.0F);
  const Floats round =
      broadcast(0x1.8p23F);  // adding it rounds to an integer and leaves that in the low bits
  const Floats clamped = x < lowest ? lowest : x;
  const Floats shifted = clamped * 1.44269504F + round;
  const Floats whole = shifted - round;
  const Floats r = clamped - whole * 0.693359375F - whole * -2.12194440e-4F;
  Floats p = broadcast(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const Floats mantissa = p * r * r + r + 1.0F;
  const Ints exponent = (reinterpret_cast<Ints>(shifted) - reinterpret_cast<Ints>(round) + 127) << 23;
  return x < lowest ? broadcast(0) : mantissa * reinterpret_cast<Floats>(exponent);
}

// Largest logit; NaN when one is NaN or infinite.
float max_finite(std::span<const float> logits) {
  Floats largest[kVectors];
  Floats poison[kVectors];  // x * 0 is NaN exactly when x is not finite
  std::fill_n(largest, kVectors, broadcast(-FLT_MAX));
  std::fill_n(poison, kVectors, broadcast(0));
  const size_t whole = logits.size() / kStride * kStride;
  for (size_t i = 0; i < whole; i += kStride) {
    for (size_t v = 0; v < kVectors; ++v) {
      const Floats x = load(&logits[i + v * kWidth]);
      largest[v] = x > largest[v] ? x : largest[v];
      poison[v] += x * 0.0F;
    }
  }
  float result = -FLT_MAX;
  float all_poison = 0;
  for (size_t i = whole; i < logits.size(); ++i) {
    result = std::max(result, logits[i]);
    all_poison += logits[i] * 0.0F;
  }
  for (size_t v = 0; v < kVectors; ++v) {
    for (size_t lane = 0; lane < kWidth; ++lane) {
      result = std::max(result, largest[v][lane]);
      all_poison += poison[v][lane];
    }
  }
  return result + all_poison;
}

// Writes exp((logits - max_logit) / temperature) and returns its sum.
double exp_block(std::span<const float> logits, float max_logit, float temperature, float* weights) {
  Floats sums[kVectors];
  std::fill_n(sums, kVectors, broadcast(0));
  const size_t whole = logits.size() / kStride * kStride;
  for (size_t i = 0; i < whole; i += kStride) {
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t at = i + v * kWidth;
      const Floats weight = exp_of_nonpositive((load(&logits[at]) - max_logit) / temperature);
      store(weights + at, weight);
      sums[v] += weight;
    }
  }
  double sum = 0;
  for (const Floats& each : sums) {
    for (size_t lane = 0; lane < kWidth; ++lane) sum += each[lane];
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    weights[i] = exp_of_nonpositive(broadcast((logits[i] - max_logit) / temperature))[0];
    sum += weights[i];
  }
  return sum;
}

// Calls visit(index) for every value that is not below level(), in order. Most values are: 16 are passed over
// at a time. `level` is asked anew after each visit, which may raise it.
template <typename Level, typename Visit>
void visit_at_least(std::span<const float> values, Level&& level, Visit&& visit) {
  const size_t whole = values.size() / kStride * kStride;
  for (size_t i = 0; i < values.size();) {
    const size_t end = i < whole ? i + kStride : values.size();
    if (i < whole) {
      const Floats bound = broadcast(level());
      Ints hits = load(&values[i]) >= bound;
      for (size_t v = 1; v < kVectors; ++v) hits |= load(&values[i + v * kWidth]) >= bound;
      uint64_t halves[2];
      std::memcpy(halves, &hits, sizeof(hits));
      if ((halves[0] | halves[1]) == 0) i = end;
    }
    for (; i < end; ++i) {
      if (values[i] >= level()) visit(i);
    }
  }
}

int32_t first_index_of(std::span<const float> logits, float value) {
  return static_cast<int32_t>(std::ranges::find(logits, value) - logits.begin());
}

// The likeliest tokens by falling logit, equal ones by rising id.
void find_top(std::span<const float> logits, double normalizer, int32_t count, Sample& sample) {
  auto& top = sample.top;
  const auto worst = [&] {
    return sample.num_top < count ? -FLT_MAX : top[static_cast<size_t>(count - 1)].logprob;
  };
  visit_at_least(logits, worst, [&](size_t token) {
    if (sample.num_top == count && logits[token] <= worst()) return;
    int32_t at = sample.num_top < count ? sample.num_top++ : count - 1;
    for (; at > 0 && top[static_cast<size_t>(at - 1)].logprob < logits[token]; --at) {
      top[static_cast<size_t>(at)] = top[static_cast<size_t>(at - 1)];
    }
    top[static_cast<size_t>(at)] = {static_cast<int32_t>(token), logits[token]};
  });
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

Sample Sampler::sample(const Row& row, std::span<const int32_t> drafts, std::span<float> logits) {
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
    adjust(row, drafts, logits);
    max_logit = max_finite(logits);
  }
  if (params.temperature == 0) {
    result.token = first_index_of(logits, max_logit);
  } else {
    const auto position = static_cast<uint64_t>(row.num_tokens()) + drafts.size();
    const double uniform = uniform_draw(params.seed, position);
    result.token = draw(params, logits, max_logit, uniform);
  }
  if (params.num_logprobs >= 0) {
    result.logprob = static_cast<float>(raw_logit(result.token, logits) - normalizer);
  }
  return result;
}

// Logit bias, then the penalties. Sources: repetition penalty, Keskar et al., "CTRL" (2019), section 4.1;
// presence and frequency penalties, OpenAI's API reference.
void Sampler::adjust(const Row& row, std::span<const int32_t> drafts, std::span<float> logits) {
  const SamplingParams& params = row.sampling();
  const auto change = [&](int32_t token, float value) {
    float& logit = logits[static_cast<size_t>(token)];
    adjusted_.emplace_back(token, logit);
    logit = std::clamp(value, -FLT_MAX, FLT_MAX);
  };
  for (const auto& [token, bias] : row.logit_bias()) change(token, logits[static_cast<size_t>(token)] + bias);
  if (!params.has_penalties()) return;
  const auto penalize = [&](int32_t token, int64_t num_in_output) {
    float logit = logits[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (num_in_output > 0) {
      logit -= params.presence_penalty;
      logit -= params.frequency_penalty * static_cast<float>(num_in_output);
    }
    change(token, logit);
  };
  for (const auto& [token, count] : row.token_counts())
    penalize(token, count.num_in_output + std::ranges::count(drafts, token));
  for (size_t i = 0; i < drafts.size(); ++i) {
    const bool is_new =
        !row.token_counts().contains(drafts[i]) && std::ranges::count(drafts.first(i), drafts[i]) == 0;
    if (is_new) penalize(drafts[i], std::ranges::count(drafts, drafts[i]));
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
    visit_at_least(
        weights_, [level] { return level; },
        [&](size_t token) {
          candidates_.push_back({static_cast<int32_t>(token), weights_[token]});
          mass += weights_[token];
        });
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
