// Steps of rows to sample, on the device and with the sampler of the CPU.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "cuda/bf16.h"
#include "cuda/sampling/sampling.h"
#include "emulated_launch.h"
#include "random_values.h"
#include "runtime/sampler.h"

namespace autoglm::test {

// A row of logits with all that decides its token.
struct SampledCase {
  SamplingParams params;
  std::vector<float> logits;
  std::vector<int32_t> history;
  int32_t num_prompt_tokens = 0;
  std::vector<cuda::LogitBias> biases;  // by rising token
  std::optional<std::vector<bool>> allowed;
  int32_t given_token = -1;
};

inline std::string description_of(const SampledCase& test) {
  const SamplingParams& params = test.params;
  std::string text =
      std::to_string(test.logits.size()) + " tokens, temperature " + std::to_string(params.temperature);
  text += ", top-k " + std::to_string(params.top_k) + ", top-p " + std::to_string(params.top_p);
  text += ", min-p " + std::to_string(params.min_p) + ", logprobs " + std::to_string(params.num_logprobs);
  if (params.has_penalties()) text += ", penalties";
  text += ", " + std::to_string(test.biases.size()) + " biases";
  if (test.allowed) text += ", " + std::to_string(std::ranges::count(*test.allowed, true)) + " allowed";
  if (test.given_token >= 0) text += ", given " + std::to_string(test.given_token);
  return text;
}

// What the CPU says of it, in the device's terms.
inline cuda::SampledRow expected_row(SampledCase test, float soft_cap) {
  cuda::SampledRow expected;
  if (soft_cap > 0) {
    for (float& each : test.logits) each = soft_cap * std::tanh(each / soft_cap);
  }
  if (!std::ranges::all_of(test.logits, [](float each) { return std::isfinite(each); })) {
    expected.status = cuda::SamplingStatus::numeric_error;
    return expected;
  }
  // A forbidden token is as if it were not in the vocabulary: the CPU samples from the others alone. In place
  // of the forbidden ones of the history stands a last token that nobody draws.
  std::vector<int32_t> ids;
  std::vector<int32_t> places(test.logits.size(), -1);
  std::vector<float> logits;
  for (size_t i = 0; i < test.logits.size(); ++i) {
    if (test.allowed && !(*test.allowed)[i]) continue;
    places[i] = static_cast<int32_t>(ids.size());
    ids.push_back(static_cast<int32_t>(i));
    logits.push_back(test.logits[i]);
  }
  if (ids.empty()) {
    expected.status = cuda::SamplingStatus::nothing_allowed;
    return expected;
  }
  const auto outsider = static_cast<int32_t>(ids.size());
  if (test.allowed) logits.push_back(-1e30f);
  const std::vector<float> raw = logits;
  for (int32_t& each : test.history) {
    const int32_t place = places[static_cast<size_t>(each)];
    each = place < 0 ? outsider : place;
  }
  std::vector<int32_t> biases;
  for (const cuda::LogitBias& each : test.biases) {
    if (places[static_cast<size_t>(each.token)] < 0) continue;
    biases.insert(biases.end(),
                  {places[static_cast<size_t>(each.token)], std::bit_cast<int32_t>(each.value)});
  }
  AdmissionRecord record;
  record.sampling = test.params;
  record.tokens = test.history;
  record.num_prompt_tokens = test.num_prompt_tokens;
  record.max_tokens = 1 << 20;
  record.logit_bias = biases;
  Row row;
  row.admit(record, 1 << 20);
  Sampler sampler(static_cast<int64_t>(logits.size()));
  const Sample sample = sampler.sample(row, {}, logits);
  expected.token = ids[static_cast<size_t>(sample.token)];
  expected.logprob = sample.logprob;
  if (test.given_token >= 0) {
    expected.token = test.given_token;
    expected.logprob =
        static_cast<float>(test.logits[static_cast<size_t>(test.given_token)] - log_sum_exp(raw));
  }
  for (int32_t i = 0; i < sample.num_top; ++i) {
    const TokenLogprob& top = sample.top[static_cast<size_t>(i)];
    if (top.token == outsider) continue;
    expected.top_tokens[expected.num_top] = ids[static_cast<size_t>(top.token)];
    expected.top_logprobs[expected.num_top++] = top.logprob;
  }
  return expected;
}

struct KernelNames {
  const char* count = nullptr;
  const char* scan = nullptr;
  const char* weigh = nullptr;
  const char* limit = nullptr;
};

// The cases of one step in the memory of a device.
class SampledStep {
 public:
  SampledStep(std::vector<SampledCase> cases, float soft_cap) : cases_(std::move(cases)) {
    const auto num_rows = static_cast<int64_t>(cases_.size());
    const auto vocab_size = static_cast<int64_t>(cases_.at(0).logits.size());
    args_.row_stride = (vocab_size + 3) / 4 * 4 + 4;
    args_.vocab_size = static_cast<int32_t>(vocab_size);
    args_.num_rows = static_cast<int32_t>(num_rows);
    args_.soft_cap = soft_cap;
    logits_.assign(static_cast<size_t>(num_rows * args_.row_stride / 4), {});
    std::memset(logits_.data(), 0xff, logits_.size() * sizeof(logits_[0]));
    for (size_t i = 0; i < cases_.size(); ++i) add_row(i);
    cuda::SampledRow poison{.token = -99, .logprob = NAN, .num_top = -99};
    std::ranges::fill(poison.top_tokens, -99);
    std::ranges::fill(poison.top_logprobs, NAN);
    sampled_.assign(cases_.size(), poison);
    args_.layout = cuda::sampling_layout(num_rows + 1, num_slots_ + 1, vocab_size);
    const auto num_bytes = static_cast<size_t>(args_.layout.num_bytes);
    workspace_.resize(num_bytes / 16);
    std::memset(workspace_.data(), 0xff, num_bytes);
    std::memset(workspace_.data(), 0, static_cast<size_t>(args_.layout.num_zeroed));
    args_.logits = logits_[0].values;
    args_.rows = rows_.data();
    args_.out = sampled_.data();
    args_.tokens = tokens_.data();
    args_.biases = biases_.data();
    args_.masks = masks_.data();
    args_.workspace = workspace_.data();
  }

  void run(const emulator::Schedule& schedule, const KernelNames& names = {}) {
    const auto start = [&](cuda::LaunchShape shape, const char* name) {
      if (name != nullptr && shape.kernel != nullptr) shape.kernel = name;
      launch(shape, args_, schedule);
    };
    start(cuda::sampling_count_launch(args_), names.count);
    start(cuda::sampling_scan_launch(args_), names.scan);
    start(cuda::sampling_weigh_launch(args_), names.weigh);
    start(cuda::sampling_limit_launch(args_), names.limit);
  }

  // The first difference from what the CPU says; empty when there is none.
  std::string difference() const {
    for (size_t i = 0; i < cases_.size(); ++i) {
      const std::string text = difference_of(i);
      if (!text.empty()) return description_of(cases_[i]) + ": " + text;
    }
    const auto* bytes = reinterpret_cast<const char*>(workspace_.data());
    if (!std::all_of(bytes, bytes + args_.layout.num_zeroed, [](char each) { return each == 0; }))
      return "the workspace is left behind unclean";
    return "";
  }

  const std::vector<cuda::SampledRow>& sampled() const { return sampled_; }
  const cuda::SamplingArgs& args() const { return args_; }

 private:
  struct alignas(16) Chunk {
    float values[4];
  };

  void add_row(size_t index) {
    const SampledCase& test = cases_[index];
    std::copy(test.logits.begin(), test.logits.end(), logits_[index * args_.row_stride / 4].values);
    cuda::SamplingRow row;
    row.seed = test.params.seed;
    row.first_token = static_cast<int64_t>(tokens_.size());
    row.num_prompt_tokens = test.num_prompt_tokens;
    row.num_tokens = static_cast<int32_t>(test.history.size());
    tokens_.insert(tokens_.end(), test.history.begin(), test.history.end());
    tokens_.push_back(-7);
    row.appends_token = index % 2 == 0;
    row.first_bias = static_cast<int32_t>(biases_.size());
    row.num_biases = static_cast<int32_t>(test.biases.size());
    biases_.insert(biases_.end(), test.biases.begin(), test.biases.end());
    if (test.allowed) {
      row.first_mask_word = static_cast<int64_t>(masks_.size());
      masks_.resize(masks_.size() + (test.logits.size() + 31) / 32);
      for (size_t i = 0; i < test.logits.size(); ++i) {
        const uint32_t bit = (*test.allowed)[i] ? 1 : 0;
        masks_[static_cast<size_t>(row.first_mask_word) + i / 32] |= bit << (i % 32);
      }
    }
    row.given_token = test.given_token;
    row.num_logprobs = test.params.num_logprobs;
    row.top_k = test.params.top_k;
    row.top_p = test.params.top_p;
    row.min_p = test.params.min_p;
    row.temperature = test.params.temperature;
    row.penalties = {.repetition = test.params.repetition_penalty,
                     .presence = test.params.presence_penalty,
                     .frequency = test.params.frequency_penalty};
    if (test.given_token < 0 && (test.params.has_penalties() || !test.biases.empty())) {
      row.adjusted_slot = num_slots_++;
      args_.has_adjusted_rows = true;
    }
    if (row.temperature > 0) args_.has_drawn_rows = true;
    if (row.temperature > 0 && (row.top_k > 0 || row.top_p < 1 || row.min_p > 0))
      args_.has_limited_rows = true;
    rows_.push_back(row);
  }

  std::string difference_of(size_t index) const {
    const cuda::SampledRow expected = expected_row(cases_[index], args_.soft_cap);
    const cuda::SampledRow& found = sampled_[index];
    const auto text = [](const char* what, auto found, auto expected) {
      return std::string(what) + " " + std::to_string(found) + ", expected " + std::to_string(expected);
    };
    if (found.status != expected.status)
      return text("status", static_cast<int>(found.status), static_cast<int>(expected.status));
    if (found.token != expected.token) return text("token", found.token, expected.token);
    const cuda::SamplingRow& row = rows_[index];
    const int32_t appended =
        tokens_[static_cast<size_t>(row.first_token) + static_cast<size_t>(row.num_tokens)];
    const bool appends = row.appends_token && expected.token >= 0 && row.given_token < 0;
    if (appended != (appends ? expected.token : -7)) return text("appended", appended, expected.token);
    if (!is_close(found.logprob, expected.logprob)) return text("logprob", found.logprob, expected.logprob);
    if (found.num_top != expected.num_top) return text("tops", found.num_top, expected.num_top);
    for (int32_t i = 0; i < expected.num_top; ++i) {
      if (found.top_tokens[i] != expected.top_tokens[i])
        return text("top token", found.top_tokens[i], expected.top_tokens[i]);
      if (!is_close(found.top_logprobs[i], expected.top_logprobs[i]))
        return text("top logprob", found.top_logprobs[i], expected.top_logprobs[i]);
    }
    return "";
  }

  static bool is_close(float found, float expected) {
    return std::abs(found - expected) <= 1e-9f + static_cast<float>(kF32Tolerance) * std::abs(expected);
  }

  std::vector<SampledCase> cases_;
  std::vector<Chunk> logits_;
  std::vector<cuda::SamplingRow> rows_;
  std::vector<int32_t> tokens_;
  std::vector<cuda::LogitBias> biases_;
  std::vector<uint32_t> masks_;
  std::vector<Chunk> workspace_;
  std::vector<cuda::SampledRow> sampled_;
  int32_t num_slots_ = 0;
  cuda::SamplingArgs args_;
};

}  // namespace autoglm::test
