// Routing problems, and what the rules of RouteParams and ExpertPairs make of them on the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "cuda/bf16.h"
#include "cuda/experts/expert_pairs.h"
#include "cuda/experts/route.h"
#include "cuda/experts/route_few.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {

struct RouteCase {
  cuda::RouteArgs args;
  std::vector<float> logits;  // [rows, stride]
  std::vector<float> correction;
  std::vector<int32_t> experts;
  std::vector<float> weights;

  int64_t rows() const { return args.num_rows; }
  int64_t num_pairs() const { return args.num_rows * args.num_chosen; }
  std::span<const float> row(int64_t index) const {
    return {logits.data() + index * args.logits_stride, static_cast<size_t>(args.num_experts)};
  }
};

// Points the arguments at the case's own memory, with results that were never written.
inline void reset_outputs(RouteCase& test) {
  test.experts.assign(static_cast<size_t>(test.num_pairs()), -7);
  test.weights.assign(static_cast<size_t>(test.num_pairs()), NAN);
  test.args.logits = test.logits.data();
  test.args.correction = test.correction.empty() ? nullptr : test.correction.data();
  test.args.experts = test.experts.data();
  test.args.weights = test.weights.data();
}

// Logits on a grid of 1/8, so that two scores are equal or clearly different, and many are equal.
inline RouteCase make_route_case(Random& random, int64_t max_rows) {
  RouteCase test;
  cuda::RouteArgs& args = test.args;
  constexpr int kGroups[] = {1, 1, 2, 4, 8, 16, 32, 3};
  args.num_groups = kGroups[random.below(8)];
  const int64_t edges[] = {1, 31, 32, 33, 64, 127, 128, 129, 160, 255, 256, 257, 384, 511, 512};
  const int64_t wanted = random.below(2) == 0 ? edges[random.below(15)] : 1 + random.below(cuda::kMaxExperts);
  const int64_t size = std::max<int64_t>(1, wanted / args.num_groups);
  args.num_experts = static_cast<int32_t>(size * args.num_groups);
  args.top_groups = static_cast<int32_t>(1 + random.below(args.num_groups));
  const int64_t most = std::min<int64_t>(cuda::kMaxChosen, size * args.top_groups);
  args.num_chosen =
      static_cast<int32_t>(random.below(4) == 0 ? most : 1 + random.below(std::min<int64_t>(most, 9)));
  args.num_rows = static_cast<int32_t>(random.below(max_rows + 1));
  args.logits_stride = args.num_experts + random.below(3);
  args.score = random.below(2) == 0 ? RouterScore::softmax : RouterScore::sigmoid;
  args.normalizes = random.below(2) == 0;
  args.scale = random.below(2) == 0 ? 1.0f : 2.5f;
  for (int64_t i = 0; i < test.rows() * args.logits_stride; ++i) {
    const bool is_gap = i % args.logits_stride >= args.num_experts;
    test.logits.push_back(is_gap ? NAN : static_cast<float>(random.below(97) - 48) / 8);
  }
  if (random.below(2) == 0) {
    for (int32_t i = 0; i < args.num_experts; ++i) {
      test.correction.push_back(static_cast<float>(random.below(9) - 4) / 16);
    }
  }
  reset_outputs(test);
  return test;
}

struct ExpectedRoute {
  std::vector<int32_t> experts;
  std::vector<double> weights;
  double gap = INFINITY;  // the smallest distance between unequal values that decided
};

// Indices of the `count` largest values, ascending; of equals the first. `is_out` values are passed over.
inline std::vector<int32_t> largest_of(const std::vector<double>& values, const std::vector<bool>& is_out,
                                       int64_t count, double& gap) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!is_out[i]) order.push_back(static_cast<int32_t>(i));
  }
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  if (static_cast<int64_t>(order.size()) > count) {
    const double last = values[order[count - 1]];
    const double next = values[order[count]];
    if (last != next) gap = std::min(gap, last - next);
  }
  order.resize(count);
  std::ranges::sort(order);
  return order;
}

inline std::vector<double> scores_of(const cuda::RouteArgs& args, std::span<const float> logits) {
  std::vector<double> scores;
  if (args.score == RouterScore::sigmoid) {
    for (const float each : logits) scores.push_back(1 / (1 + std::exp(-double{each})));
    return scores;
  }
  const double most = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float each : logits) {
    scores.push_back(std::exp(each - most));
    sum += scores.back();
  }
  for (double& each : scores) each /= sum;
  return scores;
}

inline ExpectedRoute expected_route(const RouteCase& test, int64_t row) {
  const cuda::RouteArgs& args = test.args;
  const std::vector<double> scores = scores_of(args, test.row(row));
  std::vector<double> choices = scores;
  for (size_t i = 0; i < test.correction.size(); ++i) choices[i] += test.correction[i];
  ExpectedRoute expected;
  std::vector<bool> is_out(choices.size(), false);
  if (args.top_groups < args.num_groups) {
    const int64_t size = args.num_experts / args.num_groups;
    std::vector<double> groups;
    for (int64_t group = 0; group < args.num_groups; ++group) {
      std::vector<double> members(choices.begin() + group * size, choices.begin() + (group + 1) * size);
      std::ranges::sort(members, std::ranges::greater{});
      groups.push_back(size > 1 ? members[0] + members[1] : members[0]);
    }
    const std::vector<int32_t> kept =
        largest_of(groups, std::vector<bool>(groups.size(), false), args.top_groups, expected.gap);
    is_out.assign(choices.size(), true);
    for (const int32_t group : kept) std::fill_n(is_out.begin() + group * size, size, false);
  }
  expected.experts = largest_of(choices, is_out, args.num_chosen, expected.gap);
  double sum = 0;
  for (const int32_t expert : expected.experts) sum += scores[expert];
  for (const int32_t expert : expected.experts) {
    expected.weights.push_back(scores[expert] / (args.normalizes ? sum : 1) * args.scale);
  }
  return expected;
}

// Words before and after pair_rows that no pair has: what a faulty kernel may hit.
inline constexpr int kMargin = 64;

struct PairCase {
  cuda::ExpertPairArgs args;
  std::vector<int32_t> experts;
  int32_t num_valid = 0;
  std::vector<int32_t> first_pairs;
  std::vector<int32_t> pair_rows;  // between margins
  std::vector<int32_t> pair_of;
  std::vector<int32_t> counts;
};

inline void reset_outputs(PairCase& test) {
  cuda::ExpertPairArgs& args = test.args;
  test.first_pairs.assign(args.num_experts + 1, -7);
  test.pair_of.assign(int64_t{args.num_rows} * args.num_chosen, -7);
  test.pair_rows.assign(test.pair_of.size() + 2 * kMargin, -7);
  test.counts.assign(cuda::pair_count_words(args.num_rows, args.num_experts), -7);
  args.experts = test.experts.data();
  args.first_pairs = test.first_pairs.data();
  args.pair_rows = test.pair_rows.data() + kMargin;
  args.pair_of = test.pair_of.data();
  args.counts = test.counts.data();
}

// Distinct experts for each row, ascending; what padding names is never to be read as an expert.
inline PairCase make_pair_case(Random& random, int64_t num_rows, int64_t num_experts, int64_t num_chosen) {
  PairCase test;
  test.args.num_rows = static_cast<int32_t>(num_rows);
  test.args.num_experts = static_cast<int32_t>(num_experts);
  test.args.num_chosen = static_cast<int32_t>(num_chosen);
  test.num_valid = test.args.num_rows;
  std::vector<int32_t> all(num_experts);
  for (int64_t row = 0; row < num_rows; ++row) {
    std::iota(all.begin(), all.end(), 0);
    for (int64_t j = 0; j < num_chosen; ++j) std::swap(all[j], all[j + random.below(num_experts - j)]);
    std::sort(all.begin(), all.begin() + num_chosen);
    test.experts.insert(test.experts.end(), all.begin(), all.begin() + num_chosen);
  }
  reset_outputs(test);
  return test;
}

// Only so many rows count; the others' experts are no numbers of experts.
inline void pad_from(PairCase& test, int32_t num_valid) {
  test.num_valid = num_valid;
  std::fill(test.experts.begin() + int64_t{num_valid} * test.args.num_chosen, test.experts.end(), 1 << 28);
  test.args.num_valid_rows = &test.num_valid;
}

inline bool has_right_pairs(const PairCase& test, const int32_t* experts) {
  const cuda::ExpertPairArgs& args = test.args;
  std::vector<int32_t> first_pairs(args.num_experts + 1, 0);
  std::vector<int32_t> rows(test.pair_rows.size(), -7);
  std::fill(rows.begin() + kMargin, rows.end() - kMargin, 0);
  std::vector<int32_t> pair_of(test.pair_of.size(), -1);
  for (int32_t i = 0; i < test.num_valid * args.num_chosen; ++i) ++first_pairs[experts[i] + 1];
  std::partial_sum(first_pairs.begin(), first_pairs.end(), first_pairs.begin());
  std::vector<int32_t> next = first_pairs;
  for (int32_t i = 0; i < test.num_valid * args.num_chosen; ++i) {
    pair_of[i] = next[experts[i]]++;
    rows[kMargin + pair_of[i]] = i / args.num_chosen;
  }
  return test.first_pairs == first_pairs && test.pair_rows == rows && test.pair_of == pair_of;
}

}  // namespace autoglm::test
