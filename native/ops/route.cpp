#include "ops/route.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {
namespace {

constexpr float kLargest = std::numeric_limits<float>::infinity();
constexpr float kNever = -std::numeric_limits<float>::infinity();
// Against a sum of zero, as in the models' own code: far below any sum of scores that counts.
constexpr float kSmallestSum = 1e-20F;

void check_route(const RouteParams& params) {
  const int64_t num_rows = params.logits.num_rows;
  const int64_t num_experts = params.logits.num_cols;
  check_view("route: logits", params.logits, num_rows, num_experts);
  check_view("route: experts", params.experts, num_rows, params.num_chosen);
  check_view("route: weights", params.weights, num_rows, params.num_chosen);
  check_that(params.num_chosen >= 1 && params.num_groups >= 1 && num_experts % params.num_groups == 0,
             "route: groups of equal size and at least one expert to choose");
  check_that(params.top_groups >= 1 && params.top_groups <= params.num_groups,
             "route: 1..num_groups top groups");
  check_that(params.num_chosen <= params.top_groups * (num_experts / params.num_groups),
             "route: at least as many experts in the top groups as are chosen");
}

void softmax(const float* logits, std::span<float> scores) {
  float most = kNever;
  for (size_t i = 0; i < scores.size(); ++i) most = std::max(most, logits[i]);
  float sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) sum += scores[i] = std::exp(logits[i] - most);
  for (float& score : scores) score /= sum;
}

void sigmoid(const float* logits, std::span<float> scores) {
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = 1 / (1 + std::exp(-logits[i]));
}

struct RowScratch {
  std::vector<float> scores;
  std::vector<float> choices;
  std::vector<bool> is_out;  // chosen already, or in a group that is not looked at
  std::vector<bool> is_chosen;
  std::vector<float> group_scores;
  std::vector<bool> is_group_kept;
};

// Index of the largest value that is not out, the first of equals; at least one is not.
size_t largest(std::span<const float> values, const std::vector<bool>& is_out) {
  size_t best = values.size();
  for (size_t i = 0; i < values.size(); ++i) {
    if (!is_out[i] && (best == values.size() || values[i] > values[best])) best = i;
  }
  return best;
}

// Marks the experts of all but the best groups as out.
void drop_low_groups(const RouteParams& params, RowScratch& scratch) {
  const size_t size = scratch.choices.size() / static_cast<size_t>(params.num_groups);
  const std::span<const float> choices = scratch.choices;
  for (size_t group = 0; group < scratch.group_scores.size(); ++group) {
    float best = kNever, second = kNever;
    for (const float choice : choices.subspan(group * size, size)) {
      second = std::max(second, std::min(best, choice));
      best = std::max(best, choice);
    }
    scratch.group_scores[group] = size > 1 ? best + second : best;
  }
  std::fill(scratch.is_group_kept.begin(), scratch.is_group_kept.end(), false);
  for (int64_t i = 0; i < params.top_groups; ++i) {
    scratch.is_group_kept[largest(scratch.group_scores, scratch.is_group_kept)] = true;
  }
  for (size_t i = 0; i < choices.size(); ++i) scratch.is_out[i] = !scratch.is_group_kept[i / size];
}

void route_row(const RouteParams& params, int64_t row, RowScratch& scratch) {
  const float* logits = params.logits.row(row);
  std::vector<float>& scores = scratch.scores;
  if (params.score == RouterScore::softmax) {
    softmax(logits, scores);
  } else {
    sigmoid(logits, scores);
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    const float choice = params.correction == nullptr ? scores[i] : scores[i] + params.correction[i];
    scratch.choices[i] = std::isnan(choice) ? kLargest : choice;
  }
  std::fill(scratch.is_out.begin(), scratch.is_out.end(), false);
  std::fill(scratch.is_chosen.begin(), scratch.is_chosen.end(), false);
  if (params.top_groups < params.num_groups) drop_low_groups(params, scratch);
  for (int64_t j = 0; j < params.num_chosen; ++j) {
    const size_t expert = largest(scratch.choices, scratch.is_out);
    scratch.is_out[expert] = scratch.is_chosen[expert] = true;
  }
  int32_t* experts = params.experts.row(row);
  float* weights = params.weights.row(row);
  int64_t count = 0;
  float sum = kSmallestSum;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!scratch.is_chosen[i]) continue;
    experts[count] = static_cast<int32_t>(i);
    weights[count] = scores[i];
    sum += scores[i];
    ++count;
  }
  const float divisor = params.normalizes ? sum : 1;
  for (int64_t j = 0; j < count; ++j) weights[j] = weights[j] / divisor * params.scale;
}

}  // namespace

void route(const Execution& execution, const RouteParams& params) {
  check_route(params);
  const auto num_experts = static_cast<size_t>(params.logits.num_cols);
  const auto num_groups = static_cast<size_t>(params.num_groups);
  // Exponentials and the choice among the experts: some 20 operations for each.
  for_row_chunks(execution, params.logits.num_rows, params.logits.num_cols * 20,
                 [=](int64_t first, int64_t last) {
                   RowScratch scratch{.scores = std::vector<float>(num_experts),
                                      .choices = std::vector<float>(num_experts),
                                      .is_out = std::vector<bool>(num_experts),
                                      .is_chosen = std::vector<bool>(num_experts),
                                      .group_scores = std::vector<float>(num_groups),
                                      .is_group_kept = std::vector<bool>(num_groups)};
                   for (int64_t row = first; row < last; ++row) route_row(params, row, scratch);
                 });
}

void ExpertPairs::build(TensorView<const int32_t> experts, int64_t num_experts) {
  num_rows_ = experts.num_rows;
  num_chosen_ = experts.num_cols;
  const auto count = static_cast<size_t>(num_rows_ * num_chosen_);
  first_.assign(static_cast<size_t>(num_experts) + 1, 0);
  for (int64_t row = 0; row < num_rows_; ++row) {
    for (int64_t j = 0; j < num_chosen_; ++j) {
      const int32_t expert = experts.row(row)[j];
      check_that(expert >= 0 && expert < num_experts, "route: experts that exist");
      ++first_[static_cast<size_t>(expert) + 1];
    }
  }
  for (size_t expert = 1; expert < first_.size(); ++expert) first_[expert] += first_[expert - 1];
  next_.assign(first_.begin(), first_.end() - 1);
  rows_.resize(count);
  pair_of_.resize(count);
  for (int64_t row = 0; row < num_rows_; ++row) {
    for (int64_t j = 0; j < num_chosen_; ++j) {
      const int32_t pair = next_[static_cast<size_t>(experts.row(row)[j])]++;
      rows_[static_cast<size_t>(pair)] = static_cast<int32_t>(row);
      pair_of_[static_cast<size_t>(row * num_chosen_ + j)] = pair;
    }
  }
}

}  // namespace autoglm
