#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "base/philox.h"
#include "base/sampling_math.h"

namespace autoglm {
namespace {

// Four floats at a time, by the compilers' portable vector types: left to itself GCC 12 keeps these loops
// scalar.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
using Bits = uint32_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(32)));
using Words = uint64_t __attribute__((vector_size(16)));
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

// How many factors of 2 in weight below the likeliest token candidates are gathered: further ones only when
// those do not suffice, as most distributions are settled by the first level. Behind the last all weights are
// 0.
constexpr float kCandidateOctaves[] = {6, 12, 24, kMaxOctaves + 1};

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

// Sums whole weights: 2^52 + weight, rounded by the addition, has the whole weight in its low bits.
class WeightSum {
 public:
  void add(Floats weights) {
    constexpr double kRound = 0x1p52;
    const Doubles shifted = __builtin_convertvector(weights, Doubles) + kRound;
    Words halves[2];
    std::memcpy(halves, &shifted, sizeof(shifted));
    sums_ += halves[0] - std::bit_cast<uint64_t>(kRound);
    sums_ += halves[1] - std::bit_cast<uint64_t>(kRound);
  }
  uint64_t total() const { return sums_[0] + sums_[1]; }

 private:
  Words sums_{};
};

// Writes the weights of base/sampling_math.h, unrounded, and returns their sum in whole units.
uint64_t weigh_block(std::span<const float> logits, float max_logit, float octaves_per_unit, float* weights) {
  const auto weigh = [&](Floats values) {
    return weight_of_octaves<Floats, Bits>((values - max_logit) * octaves_per_unit);
  };
  WeightSum sums[kVectors];
  const size_t whole = logits.size() / kStride * kStride;
  for (size_t i = 0; i < whole; i += kStride) {
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t at = i + v * kWidth;
      const Floats each = weigh(load(&logits[at]));
      store(weights + at, each);
      sums[v].add(each);
    }
  }
  uint64_t total = 0;
  for (const WeightSum& sum : sums) total += sum.total();
  for (size_t i = whole; i < logits.size(); ++i) {
    weights[i] = weigh(broadcast(logits[i]))[0];
    total += whole_weight(weights[i]);
  }
  return total;
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

// whole_weight by the processor's own rounding, which is that of the environment: to nearest even.
uint64_t round_weight(float weight) { return static_cast<uint64_t>(std::llrint(weight)); }

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
  uint64_t sum = 0;
  for (size_t start = 0; start < logits.size(); start += kBlock) {
    sum += weigh_block(logits.subspan(start, std::min(kBlock, logits.size() - start)), max_logit,
                       octaves_per_logit(1), weights);
  }
  return max_logit + std::log(static_cast<double>(sum) / kUnitWeight);
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
    result.token = draw(params, logits, max_logit, random_bits(params.seed, position));
  }
  if (params.num_logprobs >= 0) {
    result.logprob = static_cast<float>(raw_logit(result.token, logits) - normalizer);
  }
  return result;
}

// Logit bias, then the penalties.
void Sampler::adjust(const Row& row, std::span<const int32_t> drafts, std::span<float> logits) {
  const SamplingParams& params = row.sampling();
  const auto change = [&](int32_t token, float value) {
    float& logit = logits[static_cast<size_t>(token)];
    adjusted_.emplace_back(token, logit);
    logit = value;
  };
  for (const auto& [token, bias] : row.logit_bias())
    change(token, biased_logit(logits[static_cast<size_t>(token)], bias));
  if (!params.has_penalties()) return;
  const Penalties penalties{.repetition = params.repetition_penalty,
                            .presence = params.presence_penalty,
                            .frequency = params.frequency_penalty};
  const auto penalize = [&](int32_t token, int64_t num_in_output) {
    change(token, penalized_logit(logits[static_cast<size_t>(token)], penalties,
                                  static_cast<int32_t>(num_in_output)));
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
                      uint64_t bits) {
  const float octaves_per_unit = octaves_per_logit(params.temperature);
  uint64_t mass = 0;
  for (size_t block = 0; block < block_weights_.size(); ++block) {
    const size_t start = block * kBlock;
    block_weights_[block] = weigh_block(logits.subspan(start, std::min(kBlock, logits.size() - start)),
                                        max_logit, octaves_per_unit, &weights_[start]);
    mass += block_weights_[block];
  }
  const bool limits_count = params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size());
  if (!limits_count && params.top_p >= 1 && params.min_p <= 0) return draw_from_all(drawn_mass(bits, mass));

  if (!limits_count && params.top_p >= 1) {
    constexpr float kSlack = 0.1F;  // far more than rounding moves
    const float octaves = std::min(kMaxOctaves + 1, kSlack - std::log2(params.min_p));
    gather_candidates(logits, max_logit, octaves / octaves_per_unit);
  } else {
    for (const float octaves : kCandidateOctaves) {
      const uint64_t gathered = gather_candidates(logits, max_logit, octaves / octaves_per_unit);
      const bool suffices = limits_count ? static_cast<int64_t>(candidates_.size()) >= params.top_k
                                         : gathered >= mass_to_keep(params.top_p, mass);
      if (suffices) break;
    }
  }
  if (limits_count) {
    keep_likeliest(static_cast<uint64_t>(params.top_k), [](const Candidate&) { return uint64_t{1}; });
    mass = candidate_mass();
  }
  if (params.top_p < 1)
    keep_likeliest(mass_to_keep(params.top_p, mass), [](const Candidate& each) { return each.weight; });
  const uint64_t least = least_weight(params.min_p);
  std::erase_if(candidates_, [=](const Candidate& each) { return each.weight < least; });
  uint64_t drawn = drawn_mass(bits, candidate_mass());
  auto each = candidates_.begin();
  for (; drawn >= each->weight; ++each) drawn -= each->weight;
  return static_cast<int32_t>(token_of_rank(each->rank));
}

int32_t Sampler::draw_from_all(uint64_t drawn) const {
  size_t block = 0;
  while (drawn >= block_weights_[block]) drawn -= block_weights_[block++];
  for (size_t token = block * kBlock;; ++token) {
    const uint64_t weight = round_weight(weights_[token]);
    if (drawn < weight) return static_cast<int32_t>(token);
    drawn -= weight;
  }
}

// Collects in the order of their ids the tokens that top-k and top-p could keep, usually a small part of the
// vocabulary: those at most `depth` below the largest logit. Weights need not rise with logits in their last
// bits. Returns what they weigh.
uint64_t Sampler::gather_candidates(std::span<const float> logits, float max_logit, float depth) {
  candidates_.clear();
  max_logit_ = max_logit;
  bins_per_unit_ = depth > 0 ? static_cast<float>(kBins - 1) / depth : 0;
  const float lowest = max_logit - depth;
  uint64_t mass = 0;
  visit_at_least(
      logits, [=] { return lowest; },
      [&](size_t token) {
        const uint64_t weight = round_weight(weights_[token]);
        candidates_.push_back({likelihood_rank(logits[token], static_cast<uint32_t>(token)), weight});
        mass += weight;
      });
  return mass;
}

uint64_t Sampler::candidate_mass() const {
  uint64_t mass = 0;
  for (const Candidate& candidate : candidates_) mass += candidate.weight;
  return mass;
}

// Falls, or stays, as a candidate's rank rises.
size_t Sampler::bin_of(const Candidate& candidate) const {
  const float bin = (max_logit_ - logit_of_rank(candidate.rank)) * bins_per_unit_;
  return std::min(static_cast<size_t>(bin), kBins - 1);
}

// Keeps the likeliest candidates up to the one with which they measure `amount` together, if all do; in their
// order.
template <typename Measure>
void Sampler::keep_likeliest(uint64_t amount, Measure measure) {
  std::array<uint64_t, kBins> bins{};
  for (const Candidate& each : candidates_) bins[bin_of(each)] += measure(each);
  size_t bin = 0;
  for (; bin < kBins && bins[bin] < amount; ++bin) amount -= bins[bin];
  if (bin == kBins) return;
  border_.clear();
  std::ranges::copy_if(candidates_, std::back_inserter(border_),
                       [=, this](const Candidate& each) { return bin_of(each) == bin; });
  // A search by halves, each of which partitions only the part that holds the border.
  auto low = border_.begin();
  auto high = border_.end();
  while (high - low > 1) {
    const auto middle = low + (high - low) / 2;
    std::ranges::nth_element(low, middle, high, std::ranges::greater{}, &Candidate::rank);
    uint64_t half = 0;
    for (auto each = low; each != middle; ++each) half += measure(*each);
    if (half >= amount) {
      high = middle;
    } else {
      amount -= half;
      low = middle;
    }
  }
  std::erase_if(candidates_, [rank = low->rank](const Candidate& each) { return each.rank < rank; });
}

}  // namespace autoglm
