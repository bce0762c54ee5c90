// The arithmetic of a draw, on its own, and what the kernels lay out with it.
#include "base/sampling_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/sampling/sampling_storage.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

float weight_of(float octaves) { return weight_of_octaves<float, uint32_t>(octaves); }

TEST(SamplingMath, WeightsArePowersOfTwoWithinTheErrorStated) {
  double largest = 0;
  for (float octaves = 0; octaves >= -kMaxOctaves; octaves -= 1.37e-4f) {
    const double expected = std::exp2(double{octaves} + kWeightBits);
    largest = std::max(largest, std::abs(weight_of(octaves) / expected - 1));
  }
  EXPECT_LT(largest, 2e-7);
  for (int whole = 0; whole <= 38; ++whole) {
    EXPECT_EQ(weight_of(static_cast<float>(-whole)), std::ldexp(1.0f, kWeightBits - whole));
  }
  EXPECT_EQ(weight_of(-kMaxOctaves - 0.001f), 0);
  EXPECT_EQ(whole_weight(weight_of(-kMaxOctaves)), 0u) << "nothing is lost where weights become 0";
  EXPECT_EQ(weight_of(-INFINITY), 0);
}

// GPUs compute with scalars, the CPU with vectors.
TEST(SamplingMath, VectorsAndScalarsHaveTheSameBits) {
  using Floats = float __attribute__((vector_size(16)));
  using Bits = uint32_t __attribute__((vector_size(16)));
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    Floats octaves;
    for (int lane = 0; lane < 4; ++lane) octaves[lane] = -random.uniform(0, 45) * random.uniform(0, 1);
    const Floats weights = weight_of_octaves<Floats, Bits>(octaves);
    for (int lane = 0; lane < 4; ++lane) ASSERT_EQ(weights[lane], weight_of(octaves[lane])) << octaves[lane];
  }
}

TEST(SamplingMath, WholeWeightsAreRoundedToNearestEven) {
  Random random(2);
  for (int i = 0; i < 20'000; ++i) {
    const float weight = std::exp2(random.uniform(-4, 37));
    ASSERT_EQ(whole_weight(weight), static_cast<uint64_t>(std::llrint(weight))) << weight;
  }
  for (const float weight : {0.0f, 0.25f, 0.5f, 0.75f, 1.5f, 2.5f, 8388607.5f, 8388608.0f, 0x1p37f}) {
    EXPECT_EQ(whole_weight(weight), static_cast<uint64_t>(std::llrint(weight))) << weight;
  }
}

TEST(SamplingMath, SharesAndDrawsAreExact) {
  Random random(3);
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t mass = 1 + random.next() % ((uint64_t{1} << (1 + random.below(58))) - 1 + 1);
    const uint64_t bits = random.next();
    const auto product = static_cast<unsigned __int128>(bits) * mass;
    ASSERT_EQ(drawn_mass(bits, mass), static_cast<uint64_t>(product >> 64));
    const float top_p = random.uniform(0.01f, 0.9999f);
    const uint64_t kept = mass_to_keep(top_p, mass);
    const long double share = static_cast<long double>(top_p) * mass;  // 24 and 58 bits may exceed its 64
    ASSERT_NEAR(static_cast<double>(kept - share), 0.5, 0.6) << top_p << " of " << mass;
  }
  EXPECT_EQ(mass_to_keep(0.5f, 10), 5u);
  EXPECT_EQ(mass_to_keep(0.5f, 11), 6u);
  EXPECT_EQ(mass_to_keep(0, 1000), 1u);
  EXPECT_EQ(drawn_mass(~uint64_t{0}, 7), 6u);
  EXPECT_EQ(drawn_mass(0, 7), 0u);
}

TEST(SamplingMath, RanksFollowLogitsAndThenIds) {
  const float logits[] = {-INFINITY, -FLT_MAX, -3, -1e-40f, 0, 1e-40f, 2, FLT_MAX, INFINITY};
  for (size_t i = 0; i < std::size(logits); ++i) {
    for (const uint32_t token : {0u, 5u, (1u << 20) - 1}) {
      const uint64_t rank = likelihood_rank(logits[i], token);
      EXPECT_EQ(logit_of_rank(rank), logits[i]);
      EXPECT_EQ(token_of_rank(rank), token);
      if (i > 0) {
        EXPECT_GT(rank, likelihood_rank(logits[i - 1], 0));
      }
    }
    EXPECT_GT(likelihood_rank(logits[i], 3), likelihood_rank(logits[i], 4));
  }
  EXPECT_EQ(likelihood_rank(-0.0f, 3), likelihood_rank(0.0f, 3));
}

TEST(SamplingMath, ASliceOfFullWeightsDoesNotOverflowItsHalves) {
  const auto full = static_cast<uint64_t>(kUnitWeight);
  EXPECT_LT((full >> cuda::kLowBits) * cuda::kSliceTokens, uint64_t{1} << 32);
  EXPECT_LE(((uint64_t{1} << cuda::kLowBits) - 1) * cuda::kSliceTokens, (uint64_t{1} << 32) - 1);
}

TEST(SamplingLayout, PartsFollowEachOtherOnAlignedAddresses) {
  for (const auto& [rows, slots, vocab] :
       {std::tuple{1, 0, 1}, {3, 2, 8193}, {256, 17, 151'552}, {1, 1, 1 << 20}}) {
    const cuda::SamplingLayout layout = cuda::sampling_layout(rows, slots, vocab);
    const int64_t slices = rows * cuda::slices_of(vocab);
    const int64_t words = slots * cuda::padded_vocab(vocab);
    const std::pair<int64_t, int64_t> parts[] = {
        {layout.tickets, rows * 4},
        {layout.list_counts, rows * 4},
        {layout.counts, words * 4},
        {layout.states, rows * int64_t{sizeof(cuda::RowState)}},
        {layout.partials, slices * int64_t{sizeof(cuda::SlicePartial)}},
        {layout.tops, slices * cuda::kMaxTopTokens * 8},
        {layout.slice_masses, slices * 8},
        {layout.bins, slices * int64_t{sizeof(cuda::SliceBins)}},
        {layout.lists, rows * cuda::kListTokens * 8},
        {layout.adjusted, words * 4},
        {layout.num_bytes, 0},
    };
    for (size_t i = 0; i + 1 < std::size(parts); ++i) {
      EXPECT_EQ(parts[i].first % 16, 0);
      EXPECT_GE(parts[i + 1].first, parts[i].first + parts[i].second);
      EXPECT_LT(parts[i + 1].first, parts[i].first + parts[i].second + 16);
    }
    EXPECT_EQ(layout.num_zeroed, layout.states);
  }
}

}  // namespace
}  // namespace autoglm::test
