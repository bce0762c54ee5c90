// Draws one token from one row's logits. Bit for bit the same whatever else is in the batch, and on a GPU
// (cuda/sampling): sums are integers, by base/sampling_math.h, and the only randomness is base/philox.h at
// (seed, position).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "runtime/row.h"
#include "runtime/step_records.h"

namespace autoglm {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct Sample {
  int32_t token = -1;
  bool is_numeric_error = false;  // a logit was NaN or infinite; nothing else is set
  float logprob = 0;              // under the model's own distribution, before any setting is applied
  int32_t num_top = 0;
  std::array<TokenLogprob, abi::Limits::maxLogprobs> top{};  // likeliest first
};

// One per thread of the pool: it holds the scratch memory of one draw.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);

  int64_t scratch_bytes() const;

  // The token that follows the row's tokens and `drafts`, which count as output. Order: logit bias,
  // repetition penalty (prompt and output), presence and frequency penalties (output), temperature, top-k,
  // top-p, min-p. Overwrites `logits`.
  Sample sample(const Row& row, std::span<const int32_t> drafts, std::span<float> logits);

 private:
  struct Candidate {
    uint64_t rank;  // likelihood_rank: holds the token
    uint64_t weight;
  };

  void adjust(const Row& row, std::span<const int32_t> drafts, std::span<float> logits);
  float raw_logit(int32_t token, std::span<const float> logits) const;
  int32_t draw(const SamplingParams& params, std::span<const float> logits, float max_logit, uint64_t bits);
  int32_t draw_from_all(uint64_t drawn) const;
  uint64_t gather_candidates(std::span<const float> logits, float max_logit, float depth);
  uint64_t candidate_mass() const;
  size_t bin_of(const Candidate& candidate) const;
  template <typename Measure>
  void keep_likeliest(uint64_t amount, Measure measure);

  static constexpr size_t kBins = 1024;

  std::vector<float> weights_;           // [vocab_size]
  std::vector<uint64_t> block_weights_;  // sums over kBlock weights each
  std::vector<Candidate> candidates_;    // by id
  std::vector<Candidate> border_;        // those of one bin: grows with ties alone
  float max_logit_ = 0;
  float bins_per_unit_ = 0;
  std::vector<std::pair<int32_t, float>> adjusted_;  // token and its raw logit, in the order of change
};

// log(sum(exp(logits))), or NaN when a logit is NaN or infinite.
double log_sum_exp(std::span<const float> logits);

}  // namespace autoglm
