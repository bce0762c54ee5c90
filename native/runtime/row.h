// A row: a running request's fixed place in native memory. Written at admission; afterwards only the engine
// thread appends the tokens it samples, so that a step planned before a token was known reads it here.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/sampling_params.h"
#include "runtime/step_plan.h"

namespace autoglm {

// How often a token occurs in a row's history.
struct TokenCount {
  bool is_in_prompt = false;
  int32_t num_in_output = 0;
};

class Row {
 public:
  static constexpr int32_t kNoPage = -1;

  // Takes the place of whatever the row held. Room for every token the request may reach is taken here. May
  // throw std::bad_alloc, and then the row is vacant.
  void admit(const AdmissionRecord& admission, int64_t context_length);

  // A later entry of this generation is skipped.
  void finish() { is_finished_ = true; }
  bool is_running(int32_t generation) const { return !is_finished_ && generation == generation_; }

  // Adds a sampled token; returns its abi::Finish value and finishes the row unless that is `none`.
  int32_t append(int32_t token);

  void set_page(int32_t index, int32_t page);
  // Page ids in token order; kNoPage where none was given.
  std::span<const int32_t> page_table() const { return page_table_; }
  // True when every position below `end` has a page.
  bool has_pages_until(int64_t end) const;

  RequestKind kind() const { return kind_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  // While a step is launched that appends one more token: which of its draws that is. Else -1.
  int32_t pending_draw() const { return pending_draw_; }
  void set_pending_draw(int32_t draw_idx) { pending_draw_ = draw_idx; }
  // With the one that is pending.
  int64_t num_planned_tokens() const { return num_tokens() + (pending_draw_ >= 0 ? 1 : 0); }
  int64_t num_prompt_tokens() const { return num_prompt_tokens_; }
  std::span<const int32_t> positions() const { return positions_; }
  int32_t output_id() const { return output_id_; }
  int32_t rope_table() const { return rope_table_; }
  int32_t adapter() const { return adapter_; }
  int32_t second_segment() const { return second_segment_; }
  Pooling pooling() const { return pooling_; }
  // What a `pool` request has gathered so far: [hidden_size] once it began.
  std::span<double> pooled_sum() { return pooled_sum_; }
  std::span<const double> pooled_sum() const { return pooled_sum_; }
  void begin_pooling(int64_t hidden_size) { pooled_sum_.assign(static_cast<size_t>(hidden_size), 0.0); }
  const SamplingParams& sampling() const { return sampling_; }
  std::span<const std::pair<int32_t, float>> logit_bias() const { return logit_bias_; }
  // No token has two biases.
  bool has_distinct_biases() const { return has_distinct_biases_; }
  // Only kept up when the request has penalties.
  const std::unordered_map<int32_t, TokenCount>& token_counts() const { return token_counts_; }

 private:
  int32_t generation_ = 0;
  bool is_finished_ = true;
  RequestKind kind_ = RequestKind::generate;
  int32_t pending_draw_ = -1;
  int64_t num_prompt_tokens_ = 0;
  int64_t max_tokens_ = 0;  // of output
  int64_t context_length_ = 0;
  int32_t output_id_ = 0;
  int32_t rope_table_ = 0;
  int32_t adapter_ = 0;
  int32_t second_segment_ = 0;
  Pooling pooling_ = Pooling::first;
  std::vector<double> pooled_sum_;
  SamplingParams sampling_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> stop_tokens_;  // ascending
  std::vector<std::pair<int32_t, float>> logit_bias_;
  bool has_distinct_biases_ = true;
  std::vector<int32_t> positions_;
  std::vector<int32_t> page_table_;
  size_t num_leading_pages_ = 0;  // slots before the first kNoPage
  std::unordered_map<int32_t, TokenCount> token_counts_;
};

}  // namespace autoglm
