#include "runtime/row.h"

#include <algorithm>
#include <bit>

#include "runtime/step_records.h"

namespace autoglm {

void Row::admit(const AdmissionRecord& admission, int64_t context_length) {
  is_finished_ = true;
  generation_ = admission.generation;
  kind_ = admission.kind;
  num_prompt_tokens_ = admission.num_prompt_tokens;
  max_tokens_ = admission.max_tokens;
  context_length_ = context_length;
  output_id_ = admission.output_id;
  rope_table_ = admission.rope_table;
  adapter_ = admission.adapter;
  second_segment_ = admission.second_segment;
  pooling_ = admission.pooling;
  pooled_sum_.clear();
  sampling_ = admission.sampling;

  const auto num_tokens = static_cast<int64_t>(admission.tokens.size());
  const int64_t most = std::min(context_length, num_prompt_tokens_ + max_tokens_);
  tokens_.clear();
  tokens_.reserve(static_cast<size_t>(std::max(num_tokens, most) + 1));
  tokens_.assign(admission.tokens.begin(), admission.tokens.end());
  stop_tokens_.assign(admission.stop_tokens.begin(), admission.stop_tokens.end());
  std::ranges::sort(stop_tokens_);
  logit_bias_.clear();
  for (size_t i = 0; i < admission.logit_bias.size(); i += 2) {
    logit_bias_.emplace_back(admission.logit_bias[i], std::bit_cast<float>(admission.logit_bias[i + 1]));
  }
  std::vector<int32_t> biased;
  for (const auto& [token, bias] : logit_bias_) biased.push_back(token);
  std::ranges::sort(biased);
  has_distinct_biases_ = std::ranges::adjacent_find(biased) == biased.end();
  positions_.assign(admission.positions.begin(), admission.positions.end());
  page_table_.clear();
  num_leading_pages_ = 0;
  token_counts_.clear();
  if (sampling_.has_penalties()) {
    for (int64_t i = 0; i < num_tokens; ++i) {
      TokenCount& count = token_counts_[tokens_[static_cast<size_t>(i)]];
      if (i < num_prompt_tokens_) {
        count.is_in_prompt = true;
      } else {
        ++count.num_in_output;
      }
    }
  }
  is_finished_ = false;
}

int32_t Row::append(int32_t token) {
  tokens_.push_back(token);
  if (sampling_.has_penalties()) ++token_counts_[token].num_in_output;
  int32_t finish = abi::Finish::none;
  if (std::ranges::binary_search(stop_tokens_, token)) {
    finish = abi::Finish::stop;
  } else if (num_tokens() - num_prompt_tokens_ >= max_tokens_ || num_tokens() >= context_length_) {
    finish = abi::Finish::length;
  }
  is_finished_ = finish != abi::Finish::none;
  return finish;
}

void Row::set_page(int32_t index, int32_t page) {
  const auto at = static_cast<size_t>(index);
  if (at >= page_table_.size()) page_table_.resize(at + 1, kNoPage);
  page_table_[at] = page;
  while (num_leading_pages_ < page_table_.size() && page_table_[num_leading_pages_] != kNoPage)
    ++num_leading_pages_;
}

bool Row::has_pages_until(int64_t end) const {
  return end <= static_cast<int64_t>(num_leading_pages_) * abi::Limits::pageSize;
}

}  // namespace autoglm
