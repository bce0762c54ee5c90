// The order of pairs and the weighted sum of a row's experts.
#include <gtest/gtest.h>

#include "cuda/experts/combine.h"
#include "cuda/experts/experts_storage.h"
#include "experts_fixture.h"

namespace autoglm::test {
namespace {

void order_pairs(const PairCase& test, const emulator::Schedule& schedule) {
  launch(count_pairs_launch(test.args), test.args, schedule);
  launch(place_pairs_launch(test.args), test.args, schedule);
}

TEST(CudaExpertPairs, AreInTheOrderOfExpertsAndRows) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(1000 + shape);
    const int64_t edges[] = {1, 31, 32, 33, 255, 256, 257, 511, 512, 513, 700};
    const int64_t rows = random.below(2) == 0 ? edges[random.below(11)] : random.below(100);
    const int64_t experts = random.below(3) == 0 ? cuda::kMaxExperts : 1 + random.below(cuda::kMaxExperts);
    const int64_t chosen = 1 + random.below(std::min<int64_t>(experts, random.below(4) == 0 ? 32 : 8));
    PairCase test = make_pair_case(random, rows, experts, chosen);
    if (random.below(2) == 0) pad_from(test, static_cast<int32_t>(random.below(rows + 1)));
    order_pairs(test, schedule_of(shape));
    EXPECT_TRUE(rows == 0 || has_right_pairs(test, test.experts.data()));
  }
}

TEST(CudaExpertPairs, OrdersTheLargestStep) {
  Random random(1500);
  PairCase test = make_pair_case(random, 8192, 128, 8);
  pad_from(test, 8000);
  order_pairs(test, schedule_of(1));
  EXPECT_TRUE(has_right_pairs(test, test.experts.data()));
}

TEST(CudaExpertPairs, TakeOneLaunchForRowsOfOneBlock) {
  cuda::ExpertPairArgs args;
  args.num_experts = 8;
  args.num_rows = 256;
  EXPECT_EQ(count_pairs_launch(args).kernel, nullptr);
  EXPECT_STREQ(place_pairs_launch(args).kernel, "expert_pairs_alone");
  EXPECT_EQ(cuda::pair_count_words(256, 8), 0);
  args.num_rows = 257;
  EXPECT_STREQ(count_pairs_launch(args).kernel, "expert_pairs_count");
  EXPECT_STREQ(place_pairs_launch(args).kernel, "expert_pairs_place");
  EXPECT_EQ(place_pairs_launch(args).grid_x, 2u);
  EXPECT_EQ(cuda::pair_count_words(257, 8), 16);
  args.num_rows = 0;
  EXPECT_EQ(place_pairs_launch(args).kernel, nullptr);
}

// Lanes that walk groups of the usual sizes side by side read from banks of their own.
TEST(CudaExpertPairs, PlacesOfScoresSpreadGroupsOverBanks) {
  for (const int size : {32, 16, 1}) {
    std::vector<int> lanes_of_bank(32, 0);
    for (int group = 0; group < std::min(32, 512 / size); ++group) {
      ++lanes_of_bank[cuda::score_place(group * size) % 32];
    }
    EXPECT_LE(std::ranges::max(lanes_of_bank), size == 16 ? 2 : 1) << "groups of " << size;
  }
  EXPECT_LT(cuda::score_place(511), static_cast<int>(sizeof(cuda::RowScores<16>) / sizeof(float)));
}

TEST(CudaCombine, AgreesWithFloat64OnRandomShapes) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(2000 + shape);
    const int64_t edges[] = {1, 3, 4, 127, 128, 132, 511, 512, 516, 1024};
    const int64_t cols = random.below(2) == 0 ? edges[random.below(10)] : 1 + random.below(1200);
    const int64_t rows = random.below(6);
    const int64_t chosen = 1 + random.below(random.below(4) == 0 ? 32 : 9);
    const int64_t valid = random.below(rows + 1);
    std::vector<int32_t> pairs(rows * chosen);
    std::iota(pairs.begin(), pairs.end(), 0);
    for (int64_t i = valid * chosen; i > 1; --i) std::swap(pairs[i - 1], pairs[random.below(i)]);
    std::fill(pairs.begin() + valid * chosen, pairs.end(), -1);
    std::vector<float> in = random.normals(rows * chosen * cols);
    std::fill(in.begin() + valid * chosen * cols, in.end(), NAN);
    std::vector<float> weights = random.normals(rows * chosen);
    std::fill(weights.begin() + valid * chosen, weights.end(), NAN);
    const std::vector<float> shared = random.normals(rows * cols);
    const std::vector<float> gates = random.normals(rows * 3, 2);
    const std::vector<float> residual = random.normals(rows * cols, 2);
    std::vector<float> out(rows * cols, NAN);
    cuda::CombineArgs args;
    args.in = in.data();
    args.pair_of = pairs.data();
    args.weights = weights.data();
    if (random.below(2) == 0) {
      args.shared = shared.data();
      if (random.below(2) == 0) args.shared_gate = gates.data() + 2;
    }
    args.gate_stride = 3;
    args.out = out.data();
    if (random.below(2) == 0) args.residual = residual.data();
    if (args.residual != nullptr && random.below(2) == 0) {  // in place
      out = residual;
      args.residual = out.data();
    }
    args.num_rows = static_cast<int32_t>(rows);
    args.num_cols = static_cast<int32_t>(cols);
    args.num_chosen = static_cast<int32_t>(chosen);
    args.scale = random.below(2) == 0 ? 1.0f : 0.4f;
    launch(combine_launch(args), args, schedule_of(shape));

    std::vector<double> expected;
    for (int64_t row = 0; row < rows; ++row) {
      const double gate = args.shared_gate == nullptr ? 1 : 1 / (1 + std::exp(-double{gates[row * 3 + 2]}));
      for (int64_t col = 0; col < cols; ++col) {
        double sum = args.shared != nullptr ? gate * shared[row * cols + col] : 0;
        for (int64_t j = 0; row < valid && j < chosen; ++j) {
          sum += double{weights[row * chosen + j]} * in[pairs[row * chosen + j] * cols + col];
        }
        expected.push_back(double{args.scale} * sum +
                           (args.residual != nullptr ? double{residual[row * cols + col]} : 0));
      }
    }
    EXPECT_LE(relative_distance(out, expected), kF32Tolerance);
  }
}

}  // namespace
}  // namespace autoglm::test
