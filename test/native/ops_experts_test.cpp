// The parts of a mixture of experts: routing against rules worked out by hand, grouped products against
// float64 sums and against the products one by one, and the weighted sum.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "back_ends.h"
#include "base/error.h"
#include "ops/combine.h"
#include "ops/gather_rows.h"
#include "ops/grouped_matmul.h"
#include "ops/matmul.h"
#include "ops/quantize_rows.h"
#include "ops/route.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

struct Routed {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

// Routes one row, or several laid end to end.
Routed route_rows(RouteParams params, const std::vector<float>& logits, int64_t num_rows = 1,
                  int num_threads = 1) {
  ThreadPool pool(num_threads);
  const Execution execution(pool, Isa::plain);
  Routed out;
  out.experts.resize(static_cast<size_t>(num_rows * params.num_chosen), -1);
  out.weights.resize(out.experts.size(), NAN);
  params.logits =
      TensorView<const float>(logits.data(), num_rows, static_cast<int64_t>(logits.size()) / num_rows);
  params.experts = TensorView<int32_t>(out.experts.data(), num_rows, params.num_chosen);
  params.weights = TensorView<float>(out.weights.data(), num_rows, params.num_chosen);
  route(execution, params);
  return out;
}

float sigmoid_of(float x) { return static_cast<float>(1 / (1 + std::exp(-double{x}))); }

// Goal: the correction decides who is chosen, the bare score how much they count.
// Method: without correction experts 1 and 3 are best; a correction of 0.5 lifts expert 0 past expert 3.
TEST(Route, CorrectsTheChoiceButNotTheWeights) {
  const std::vector<float> logits = {-0.5f, 2.0f, -3.0f, 1.0f};
  const std::vector<float> correction = {0.5f, 0.0f, 0.1f, 0.0f};
  RouteParams params{
      .score = RouterScore::sigmoid, .logits = {}, .num_chosen = 2, .experts = {}, .weights = {}};
  EXPECT_EQ(route_rows(params, logits).experts, (std::vector<int32_t>{1, 3}));
  params.correction = correction.data();
  const Routed corrected = route_rows(params, logits);
  EXPECT_EQ(corrected.experts, (std::vector<int32_t>{0, 1}));
  EXPECT_NEAR(corrected.weights[0], sigmoid_of(-0.5f), 1e-6f);
  EXPECT_NEAR(corrected.weights[1], sigmoid_of(2.0f), 1e-6f);
}

TEST(Route, NormalisesAndScalesTheChosenWeights) {
  const std::vector<float> logits = {1.0f, 0.0f, 2.0f};
  const RouteParams params{.score = RouterScore::sigmoid,
                           .logits = {},
                           .num_chosen = 2,
                           .normalizes = true,
                           .scale = 2.5f,
                           .experts = {},
                           .weights = {}};
  const Routed routed = route_rows(params, logits);
  const float sum = sigmoid_of(1) + sigmoid_of(2);
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{0, 2}));
  EXPECT_NEAR(routed.weights[0], 2.5f * sigmoid_of(1) / sum, 1e-6f);
  EXPECT_NEAR(routed.weights[1], 2.5f * sigmoid_of(2) / sum, 1e-6f);
}

TEST(Route, TakesSoftmaxOverAllExperts) {
  const std::vector<float> logits = {90.0f, 91.0f, 89.0f, 88.0f};  // exp(90) alone would overflow
  const RouteParams params{.logits = {}, .num_chosen = 2, .experts = {}, .weights = {}};
  const Routed routed = route_rows(params, logits);
  const double total = 1 + std::exp(1.0) + std::exp(-1.0) + std::exp(-2.0);
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{0, 1}));
  EXPECT_NEAR(routed.weights[0], 1 / total, 1e-6);
  EXPECT_NEAR(routed.weights[1], std::exp(1.0) / total, 1e-6);
}

// Goal: a group is as good as its two best, and nothing outside the best groups is chosen.
// Method: the single best expert sits in the group with the worst second.
TEST(Route, LooksOnlyInTheGroupsWhoseTwoBestAreBest) {
  const std::vector<float> logits = {3.0f, -9.0f, 1.0f, 1.1f, 0.9f, 1.2f};
  RouteParams params{.score = RouterScore::sigmoid,
                     .logits = {},
                     .num_groups = 3,
                     .top_groups = 2,
                     .num_chosen = 3,
                     .experts = {},
                     .weights = {}};
  EXPECT_EQ(route_rows(params, logits).experts, (std::vector<int32_t>{2, 3, 5}));
  params.top_groups = 3;
  EXPECT_EQ(route_rows(params, logits).experts, (std::vector<int32_t>{0, 3, 5}));
}

TEST(Route, PrefersTheFirstOfEquals) {
  const RouteParams params{.logits = {}, .num_chosen = 2, .experts = {}, .weights = {}};
  EXPECT_EQ(route_rows(params, {1, 1, 1, 1}).experts, (std::vector<int32_t>{0, 1}));
}

TEST(Route, ShowsANanAndStaysWithinTheExperts) {
  for (const RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    for (const int64_t top_groups : {1, 2}) {
      const RouteParams params{.score = score,
                               .logits = {},
                               .num_groups = 2,
                               .top_groups = top_groups,
                               .num_chosen = 2,
                               .normalizes = true,
                               .experts = {},
                               .weights = {}};
      for (const float bad : {NAN, -INFINITY}) {
        const Routed routed = route_rows(params, {0.5f, bad, bad, bad});
        ASSERT_LT(routed.experts[0], routed.experts[1]);
        ASSERT_GE(routed.experts[0], 0);
        ASSERT_LT(routed.experts[1], 4);
        const bool shows = std::isnan(routed.weights[0]) || std::isnan(routed.weights[1]);
        EXPECT_TRUE(shows || !std::isnan(bad));
      }
    }
  }
}

TEST(Route, GivesARowTheSameBitsAloneAndInAnyBatch) {
  Random random(31);
  constexpr int64_t kRows = 300, kExperts = 24;
  const std::vector<float> logits = random.normals(kRows * kExperts);
  const std::vector<float> correction = random.normals(kExperts, 0.1f);
  const RouteParams params{.score = RouterScore::sigmoid,
                           .logits = {},
                           .correction = correction.data(),
                           .num_groups = 4,
                           .top_groups = 2,
                           .num_chosen = 5,
                           .normalizes = true,
                           .experts = {},
                           .weights = {}};
  const Routed together = route_rows(params, logits, kRows, 3);
  for (int64_t row = 0; row < kRows; ++row) {
    const Routed alone =
        route_rows(params, {logits.begin() + row * kExperts, logits.begin() + (row + 1) * kExperts});
    for (size_t j = 0; j < 5; ++j) {
      ASSERT_EQ(alone.experts[j], together.experts[static_cast<size_t>(row) * 5 + j]) << "row " << row;
      ASSERT_EQ(alone.weights[j], together.weights[static_cast<size_t>(row) * 5 + j]) << "row " << row;
    }
  }
}

TEST(Route, RefusesGroupsThatCannotBe) {
  const auto expect_refusal = [](RouteParams params) {
    try {
      route_rows(params, {1, 2, 3, 4});
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::invalid_parameter) << error.what();
    }
  };
  expect_refusal({.logits = {}, .num_chosen = 5, .experts = {}, .weights = {}});
  expect_refusal({.logits = {}, .num_groups = 3, .num_chosen = 1, .experts = {}, .weights = {}});
  expect_refusal(
      {.logits = {}, .num_groups = 2, .top_groups = 3, .num_chosen = 1, .experts = {}, .weights = {}});
  expect_refusal(
      {.logits = {}, .num_groups = 2, .top_groups = 1, .num_chosen = 3, .experts = {}, .weights = {}});
}

TEST(ExpertPairs, NumbersPairsByExpertThenRow) {
  const std::vector<int32_t> experts = {0, 3, 1, 3, 0, 1};  // three rows of two
  ExpertPairs pairs;
  pairs.build({experts.data(), 3, 2}, 5);
  EXPECT_EQ(pairs.count(), 6);
  EXPECT_EQ(std::vector<int32_t>(pairs.rows().begin(), pairs.rows().end()),
            (std::vector<int32_t>{0, 2, 1, 2, 0, 1}));
  const std::vector<int64_t> first = {0, 2, 4, 4, 6, 6};
  for (int64_t expert = 0; expert <= 5; ++expert)
    EXPECT_EQ(pairs.first_of(expert), first[static_cast<size_t>(expert)]);
  const TensorView<const int32_t> of_rows = pairs.of_rows();
  const std::vector<int32_t> found(of_rows.data, of_rows.data + 6);
  EXPECT_EQ(found, (std::vector<int32_t>{0, 4, 2, 5, 1, 3}));
  const std::vector<int32_t> outside = {5};
  EXPECT_THROW(pairs.build({outside.data(), 1, 1}, 5), Error);
}

class ExpertOps : public testing::TestWithParam<BackEnd> {};

INSTANTIATE_TEST_SUITE_P(Isa, ExpertOps, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

// Products of very different sizes over gathered rows, as an expert stage has them.
struct Group {
  Group(Random& random, const Execution& execution, StoredFormat format, Precision precision,
        std::vector<int64_t> num_rows, int64_t k)
      : rows(std::move(num_rows)) {
    const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    in = random.normals(total * k);
    int64_t first = 0;
    for (const int64_t count : rows) {
      weights.push_back(random_weights(random, format, precision, 1 + random.below(130), k));
      // One more than the product writes: an output is present without rows, too.
      outputs.emplace_back(static_cast<size_t>(count * weights.back().matrix.n + 1), 7.0f);
      MatmulParams params;
      params.weights = weights.back().matrix;
      params.in = TensorView<const float>(in.data() + first * k, count, k);
      params.out = TensorView<float>(outputs.back().data(), count, params.weights.n);
      products.push_back(params);
      first += count;
    }
    if (!products.front().weights.takes_int8()) return;
    int8_memory = std::make_unique<AlignedBytes>(quantized_rows_bytes(total, k));
    const QuantizedRows quantized = make_quantized_rows(total, k, int8_memory->bytes());
    quantize_rows(execution, {in.data(), total, k}, quantized);
    first = 0;
    for (size_t i = 0; i < products.size(); ++i) {
      products[i].quantized = quantized.rows(first, rows[i]);
      first += rows[i];
    }
  }

  std::vector<int64_t> rows;
  std::vector<float> in;
  std::vector<PackedWeights> weights;
  std::vector<std::vector<float>> outputs;
  std::vector<MatmulParams> products;
  std::unique_ptr<AlignedBytes> int8_memory;
};

// Goal: one stage over many products computes each of them.
// Method: ragged groups, empty ones among them, against float64 sums; then bit for bit against matmul.
TEST_P(ExpertOps, GroupedProductsEqualFloat64SumsAndSingleProducts) {
  ThreadPool pool(3);
  const Execution execution(pool, *GetParam().kernels);
  Random random(32);
  for (const StoredFormat format :
       {StoredFormat::f32, StoredFormat::bf16, StoredFormat::q4_1, StoredFormat::q8_0}) {
    for (const Precision precision : {Precision::fast, Precision::exact}) {
      SCOPED_TRACE(std::string(info_of(format).name) + (precision == Precision::fast ? " fast" : " exact"));
      constexpr int64_t kCols = 96;
      Group group(random, execution, format, precision, {3, 0, 1, 70, 0, 5}, kCols);
      grouped_matmul(execution, group.products);
      for (size_t i = 0; i < group.products.size(); ++i) {
        const MatmulParams& product = group.products[i];
        for (int64_t row = 0; row < product.out.num_rows; ++row) {
          for (int64_t col = 0; col < product.out.num_cols; ++col) {
            double sum = 0, magnitude = 0;
            for (int64_t j = 0; j < kCols; ++j) {
              double x = GetParam().float_input(product.weights, product.in.row(row)[j]);
              if (product.weights.takes_int8()) {
                const int64_t at = row * kCols + j;
                x = double{product.quantized.groups[at / 32].scale} * product.quantized.values[at];
              }
              const double term = double{group.weights[i].values[static_cast<size_t>(col * kCols + j)]} * x;
              sum += term;
              magnitude += std::fabs(term);
            }
            // As in ops_matmul_test.cpp: half an ulp of a partial sum for each of the chain's roundings.
            ASSERT_NEAR(product.out.row(row)[col], sum, magnitude * (kCols + 4) * 0x1p-24)
                << "product " << i << ", row " << row << ", output " << col;
          }
        }
      }
      const std::vector<std::vector<float>> grouped = group.outputs;
      for (const MatmulParams& product : group.products) matmul(execution, product);
      EXPECT_EQ(grouped, group.outputs);
    }
  }
}

TEST_P(ExpertOps, GatherCopiesFloatsAndGroups) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(33);
  constexpr int64_t kCols = 64;
  const std::vector<float> in = random.normals(5 * kCols);
  const std::vector<int32_t> rows = {4, 0, 0, 3};
  std::vector<float> out(4 * kCols, NAN);
  gather_rows(execution, rows, {in.data(), 5, kCols}, {out.data(), 4, kCols});
  AlignedBytes from_memory(quantized_rows_bytes(5, kCols)), to_memory(quantized_rows_bytes(4, kCols));
  const QuantizedRows from = make_quantized_rows(5, kCols, from_memory.bytes());
  const QuantizedRows to = make_quantized_rows(4, kCols, to_memory.bytes());
  quantize_rows(execution, {in.data(), 5, kCols}, from);
  gather_rows(execution, rows, from, to);
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    for (int64_t col = 0; col < kCols; ++col) {
      EXPECT_EQ(out[static_cast<size_t>(i * kCols + col)], in[static_cast<size_t>(row * kCols + col)]);
      EXPECT_EQ(to.values[i * kCols + col], from.values[row * kCols + col]);
    }
    EXPECT_EQ(std::memcmp(to.groups + i * 2, from.groups + row * 2, 2 * sizeof(ActivationGroup)), 0);
  }
  const std::vector<int32_t> outside = {0, 5, 0, 0};
  EXPECT_THROW(gather_rows(execution, outside, {in.data(), 5, kCols}, {out.data(), 4, kCols}), Error);
}

// Goal: the weighted sum with every optional part, at widths that no vector divides.
// Method: float64 sums; the bound is a rounding per term.
TEST_P(ExpertOps, CombineWeighsExpertsGatesTheSharedOneAndAddsTheResidual) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(34);
  for (const int64_t num_cols : {1, 37, 64}) {
    for (int variant = 0; variant < 4; ++variant) {
      constexpr int64_t kRows = 6, kChosen = 3;
      const std::vector<float> in = random.normals(kRows * kChosen * num_cols);
      const std::vector<float> weights = random.normals(kRows * kChosen);
      const std::vector<float> shared = random.normals(kRows * num_cols);
      const std::vector<float> gate = random.normals(kRows);
      const std::vector<float> residual = random.normals(kRows * num_cols);
      std::vector<int32_t> pairs(kRows * kChosen);
      std::iota(pairs.begin(), pairs.end(), 0);
      std::ranges::reverse(pairs);
      std::vector<float> out(static_cast<size_t>(kRows * num_cols), NAN);
      CombineParams params{.in = {in.data(), kRows * kChosen, num_cols},
                           .pairs = {pairs.data(), kRows, kChosen},
                           .weights = {weights.data(), kRows, kChosen},
                           .shared = {},
                           .shared_gate = {},
                           .residual = {},
                           .scale = 0.5f,
                           .out = {out.data(), kRows, num_cols}};
      if (variant >= 1) params.shared = TensorView<const float>(shared.data(), kRows, num_cols);
      if (variant >= 2) params.shared_gate = TensorView<const float>(gate.data(), kRows, 1);
      if (variant >= 3) params.residual = TensorView<const float>(residual.data(), kRows, num_cols);
      combine_experts(execution, params);
      for (int64_t row = 0; row < kRows; ++row) {
        for (int64_t col = 0; col < num_cols; ++col) {
          double sum = 0, magnitude = 1;
          for (int64_t j = 0; j < kChosen; ++j) {
            const double term = double{weights[static_cast<size_t>(row * kChosen + j)]} *
                                params.in.row(params.pairs.row(row)[j])[col];
            sum += term;
            magnitude += std::fabs(term);
          }
          const double share = variant >= 2 ? 1 / (1 + std::exp(-double{gate[static_cast<size_t>(row)]})) : 1;
          if (variant >= 1) sum += share * shared[static_cast<size_t>(row * num_cols + col)];
          double expected = 0.5 * sum;
          if (variant >= 3) expected += residual[static_cast<size_t>(row * num_cols + col)];
          ASSERT_NEAR(out[static_cast<size_t>(row * num_cols + col)], expected, (magnitude + 8) * 0x1p-22)
              << num_cols << " columns, variant " << variant << ", row " << row << ", column " << col;
        }
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::test
