// The choice of experts against the rules in float64, on random rows with many ties and on rows of
// numbers that are none.
#include <gtest/gtest.h>

#include "experts_fixture.h"

namespace autoglm::test {
namespace {

constexpr double kClearGap = 1e-6;  // of scores up to 1 in f32

std::vector<int32_t> chosen_of_row(const RouteCase& test, int64_t row) {
  const auto first = test.experts.begin() + row * test.args.num_chosen;
  return {first, first + test.args.num_chosen};
}
std::vector<float> weights_of_row(const RouteCase& test, int64_t row) {
  const auto first = test.weights.begin() + row * test.args.num_chosen;
  return {first, first + test.args.num_chosen};
}

TEST(CudaRoute, AgreesWithFloat64OnRandomShapes) {
  int num_unclear = 0;
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(100 + shape);
    RouteCase test = make_route_case(random, 9);
    launch(route_launch(test.args), test.args, schedule_of(shape));
    for (int64_t row = 0; row < test.rows(); ++row) {
      const ExpectedRoute expected = expected_route(test, row);
      if (expected.gap < kClearGap) {
        ++num_unclear;
        continue;
      }
      EXPECT_EQ(chosen_of_row(test, row), expected.experts) << "row " << row;
      EXPECT_LE(relative_distance(weights_of_row(test, row), expected.weights), kF32Tolerance);
    }
  }
  EXPECT_LE(num_unclear, kNumShapes / 20);
}

// Softmax rises with the logits, so that neighbouring floats are told apart even where their scores are not.
TEST(CudaRoute, TellsApartNeighbouringLogits) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    RouteCase test;
    test.args.num_rows = 1;
    test.args.num_experts = 70;
    test.args.num_chosen = 1;
    test.args.logits_stride = 70;
    test.logits.assign(70, 0.01f);
    test.logits[65] = std::nextafter(0.01f, 1.0f);
    reset_outputs(test);
    launch(route_launch(test.args), test.args, schedule_of(seed));
    EXPECT_EQ(test.experts, std::vector<int32_t>{65});
  }
}

struct Special {
  const char* what;
  RouterScore score;
  std::vector<float> logits;
  std::vector<int32_t> experts;  // two chosen
  std::vector<float> weights;    // not normalised
};

// Goal: what is no usual number is chosen as on the CPU. Method: its rules, worked out by hand.
TEST(CudaRoute, TreatsSpecialNumbersAsTheCpu) {
  const float inf = INFINITY;
  const auto softmax = RouterScore::softmax;
  const auto sigmoid = RouterScore::sigmoid;
  const Special specials[] = {
      {"a NaN makes all scores NaN", softmax, {1, NAN, 3, 2}, {0, 1}, {NAN, NAN}},
      {"an infinity, too", softmax, {1, 2, inf, 4}, {0, 1}, {NAN, NAN}},
      {"as do no scores at all", softmax, {-inf, -inf, -inf, -inf}, {0, 1}, {NAN, NAN}},
      {"-infinity has the score 0", softmax, {-inf, -inf, 0, -inf}, {0, 2}, {0, 1}},
      {"of scores of 0 the first", softmax, {-400, -300, 0, -200}, {0, 2}, {0, 1}},
      {"a score that is nearly 0 is no tie", softmax, {-90, -88, 0, -89}, {1, 2}, {6.0546e-39f, 1}},
      {"-0 equals 0", softmax, {-0.0f, 0.0f, -0.0f, 0.0f}, {0, 1}, {0.25f, 0.25f}},
      {"NaN is the largest", sigmoid, {9, 1, NAN, 8}, {0, 2}, {0.99987660f, NAN}},
      {"scores of 1 are equal", sigmoid, {30, 20, 40, 90}, {0, 1}, {1, 1}},
      {"and those of 0", sigmoid, {-100, -95, -inf, -200}, {0, 1}, {0, 0}},
      {"infinity has the score 1", sigmoid, {0, -inf, inf, -1}, {0, 2}, {0.5f, 1}},
  };
  for (uint64_t seed = 0; seed < 3; ++seed) {
    for (const Special& special : specials) {
      SCOPED_TRACE(special.what);
      RouteCase test;
      test.args.num_rows = 1;
      test.args.num_experts = 4;
      test.args.num_chosen = 2;
      test.args.logits_stride = 4;
      test.args.score = special.score;
      test.logits = special.logits;
      reset_outputs(test);
      launch(route_launch(test.args), test.args, schedule_of(seed));
      EXPECT_EQ(test.experts, special.experts);
      for (size_t i = 0; i < 2; ++i) {
        if (std::isnan(special.weights[i])) {
          EXPECT_TRUE(std::isnan(test.weights[i]));
        } else {
          EXPECT_NEAR(test.weights[i], special.weights[i], 1e-5f * special.weights[i] + 1e-44f);
        }
      }
    }
  }
}

// Also: a group that holds a NaN is one of the best.
TEST(CudaRoute, TakesTheGroupOfANaN) {
  RouteCase test;
  test.args.num_rows = 1;
  test.args.num_experts = 64;
  test.args.num_groups = 4;
  test.args.top_groups = 1;
  test.args.num_chosen = 2;
  test.args.logits_stride = 64;
  test.args.score = RouterScore::sigmoid;
  test.logits.assign(64, 1);
  test.logits[3] = 5;
  test.logits[40] = NAN;
  reset_outputs(test);
  launch(route_launch(test.args), test.args, schedule_of(1));
  EXPECT_EQ(test.experts, (std::vector<int32_t>{32, 40}));
}

TEST(CudaRoute, GivesARowTheSameBitsInAnyBatch) {
  for (int shape = 0; shape < 30; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(400 + shape);
    RouteCase batch = make_route_case(random, 9);
    launch(route_launch(batch.args), batch.args, schedule_of(shape));
    for (int64_t row = 0; row < batch.rows(); ++row) {
      RouteCase alone = batch;
      alone.args.num_rows = 1;
      alone.logits.erase(alone.logits.begin(), alone.logits.begin() + row * alone.args.logits_stride);
      reset_outputs(alone);
      launch(route_launch(alone.args), alone.args, schedule_of(shape + 1));
      EXPECT_EQ(alone.experts, chosen_of_row(batch, row));
      EXPECT_EQ(alone.weights, weights_of_row(batch, row));
    }
  }
}

TEST(CudaRouteFew, EqualsRouteThenPairs) {
  for (int shape = 0; shape < kNumShapes / 2; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(600 + shape);
    RouteCase separate = make_route_case(random, random.below(3) == 0 ? cuda::kFewRows : 8);
    RouteCase fused = separate;
    reset_outputs(fused);
    launch(route_launch(separate.args), separate.args, schedule_of(shape));

    PairCase pairs;
    pairs.args.num_rows = fused.args.num_rows;
    pairs.args.num_experts = fused.args.num_experts;
    pairs.args.num_chosen = fused.args.num_chosen;
    reset_outputs(pairs);
    pairs.args.experts = fused.experts.data();
    pairs.num_valid = static_cast<int32_t>(random.below(fused.args.num_rows + 1));
    if (random.below(2) == 0) {
      pairs.args.num_valid_rows = &pairs.num_valid;
    } else {
      pairs.num_valid = fused.args.num_rows;
    }
    const cuda::RouteFewArgs args{fused.args, pairs.args};
    launch(route_few_launch(args), args, schedule_of(shape));
    EXPECT_EQ(fused.experts, separate.experts);
    EXPECT_EQ(fused.weights, separate.weights);
    EXPECT_TRUE(fused.rows() == 0 || has_right_pairs(pairs, separate.experts.data()));
  }
}

TEST(CudaRoute, HasNoSizeBeyondItsLanes) {
  EXPECT_TRUE(cuda::has_route(512, 32, 32));
  EXPECT_FALSE(cuda::has_route(513, 1, 8));
  EXPECT_FALSE(cuda::has_route(512, 64, 8));
  EXPECT_FALSE(cuda::has_route(512, 1, 33));
}

}  // namespace
}  // namespace autoglm::test
