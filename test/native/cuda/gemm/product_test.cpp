// The products with float weights against float64, on random shapes.
#include <gtest/gtest.h>

#include "product_fixture.h"

namespace autoglm::test {
namespace {

using cuda::Epilogue;
using cuda::GemmVariant;

constexpr GemmVariant kTiles[] = {GemmVariant::tile_16x64, GemmVariant::tile_32x64, GemmVariant::tile_64x128,
                                  GemmVariant::tile_128x128, GemmVariant::tile_128x256};

// Widths and depths at and around the borders of tiles and steps, and any others.
int64_t random_width(Random& random) {
  const int64_t edges[] = {1, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257};
  return random.below(2) == 0 ? edges[random.below(15)] : 1 + random.below(150);
}
int64_t random_depth(Random& random) {
  const int64_t edges[] = {8, 24, 32, 40, 64, 72, 96, 128, 136, 192, 256, 264};
  return random.below(2) == 0 ? edges[random.below(12)] : 8 * (1 + random.below(20));
}

ProductShape random_shape(Random& random, cuda::DeviceLayout layout) {
  ProductShape shape;
  shape.layout = layout;
  shape.n = random_width(random);
  shape.k = random_depth(random);
  shape.epilogue = static_cast<Epilogue>(random.below(3));
  shape.activation = static_cast<Activation>(random.below(4));
  if (shape.epilogue == Epilogue::gated) shape.n = (shape.n + 15) / 16 * 16;
  shape.gathers = random.below(2) == 0;
  shape.has_bias = random.below(2) == 0;
  shape.is_rounded = random.below(2) == 0;
  if (shape.epilogue == Epilogue::plain) {
    shape.has_residual = random.below(2) == 0;
    shape.is_in_place = !shape.is_rounded && shape.has_residual && random.below(2) == 0;
  }
  shape.out_padding = random.below(2) == 0 ? 0 : 1 + random.below(8);
  return shape;
}

std::string describe(const ProductCase& test) {
  const ProductShape& shape = test.shape;
  return "n " + std::to_string(shape.n) + ", k " + std::to_string(shape.k) + ", rows " +
         std::to_string(shape.num_rows) + ", epilogue " + std::to_string(static_cast<int>(shape.epilogue)) +
         ", activation " + std::to_string(static_cast<int>(shape.activation));
}

class CudaFloatProduct : public testing::TestWithParam<cuda::DeviceLayout> {};
INSTANTIATE_TEST_SUITE_P(All, CudaFloatProduct,
                         testing::Values(cuda::DeviceLayout::bf16, cuda::DeviceLayout::f16),
                         [](const auto& info) {
                           return info.param == cuda::DeviceLayout::bf16 ? "bf16" : "f16";
                         });

TEST_P(CudaFloatProduct, AgreesWithFloat64InFewRows) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(1000 + i);
    ProductShape shape = random_shape(random, GetParam());
    if (i % 4 == 0) shape.k = 8 * (120 + random.below(200));  // threads with several chunks
    shape.num_rows = 1 + random.below(cuda::kMaxGemvRows);
    ProductCase test = make_product(shape, random);
    EXPECT_TRUE(multiply(
        test, cuda::choose_gemm({.n = test.args.w.n, .k = test.args.w.k, .num_rows = test.args.num_rows}),
        schedule_of(i)));
    EXPECT_LE(largest_distance(test), tolerance_of(test)) << describe(test);
  }
}

TEST_P(CudaFloatProduct, AgreesWithFloat64OnRandomShapes) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(2000 + i);
    const GemmVariant variant = kTiles[random.below(20) % 7 % 5];  // the small tiles more often
    ProductShape shape = random_shape(random, GetParam());
    const int64_t edges[] = {1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65};
    shape.num_rows = edges[random.below(11)];
    if (variant >= GemmVariant::tile_64x128 && random.below(3) == 0) shape.num_rows += 1 + random.below(80);
    ProductCase test = make_product(shape, random);
    EXPECT_TRUE(multiply(test, variant, schedule_of(i)));
    EXPECT_LE(largest_distance(test), tolerance_of(test)) << describe(test);
  }
}

TEST_P(CudaFloatProduct, AgreesWithFloat64WhereTheSumIsSplit) {
  for (int i = 0; i < kNumShapes / 5; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(3000 + i);
    ProductShape shape = random_shape(random, GetParam());
    shape.k = 8 * (128 + random.below(80));
    shape.num_rows = 1 + random.below(random.below(2) == 0 ? 16 : 40);
    const GemmVariant variant = kTiles[random.below(5) / 2];
    ProductCase test = make_product(shape, random);
    EXPECT_GT(cuda::gemm_launch(test.args, variant).grid_y, 1u);
    EXPECT_TRUE(multiply(test, variant, schedule_of(i)));
    EXPECT_LE(largest_distance(test), tolerance_of(test)) << describe(test);
  }
}

// Goal: blocks find their expert and rows for any distribution. Method: experts without a row, with few, and
// with several tiles, more than 32 of them in some cases.
TEST_P(CudaFloatProduct, AgreesWithFloat64OnExperts) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(4000 + i);
    ProductShape shape = random_shape(random, GetParam());
    shape.has_bias = false;
    shape.n = std::min<int64_t>(shape.n, 96);
    shape.k = std::min<int64_t>(shape.k, 136);
    const int64_t num_experts = random.below(4) == 0 ? 33 + random.below(40) : 1 + random.below(8);
    const int64_t chance = 1 + random.below(num_experts > 8 ? 12 : 3);
    shape.num_rows = 0;
    for (int64_t each = 0; each < num_experts; ++each) {
      const int64_t most = random.below(6) == 0 ? 50 : 6;
      shape.pairs_per_expert.push_back(random.below(chance) == 0 ? random.below(most) : 0);
      shape.num_rows += shape.pairs_per_expert.back();
    }
    ProductCase test = make_product(shape, random);
    const GemmVariant variant = kTiles[random.below(10) == 0 ? random.below(5) : random.below(2)];
    EXPECT_TRUE(multiply(test, variant, schedule_of(i)));
    EXPECT_LE(largest_distance(test), tolerance_of(test)) << describe(test);
  }
}

ProductShape plain_shape(int64_t n, int64_t k, int64_t num_rows,
                         cuda::DeviceLayout layout = cuda::DeviceLayout::f16) {
  ProductShape shape;
  shape.layout = layout;
  shape.n = n;
  shape.k = k;
  shape.num_rows = num_rows;
  return shape;
}

// Goal: what stands beside a row does not change its bits. Method: the same rows in batches of several sizes
// and with every variant of a family.
void expect_same_bits(const ProductShape& shape, const std::vector<std::pair<GemmVariant, int64_t>>& runs) {
  Random random(5000);
  ProductCase all = make_product(shape, random);
  const int64_t stride = all.args.out_stride;
  std::vector<float> first;
  for (const auto& [variant, num_rows] : runs) {
    ProductCase part = all;
    part.args.num_rows = static_cast<int32_t>(num_rows);
    part.shape.num_rows = num_rows;
    prepare(part);
    EXPECT_TRUE(multiply(part, variant, schedule_of(num_rows)));
    if (first.empty()) first = part.out;
    const int64_t both = std::min<int64_t>(static_cast<int64_t>(first.size()) / stride, num_rows) * stride;
    EXPECT_EQ(std::memcmp(first.data(), part.out.data(), both * sizeof(float)), 0)
        << static_cast<int>(variant) << ", " << num_rows << " rows";
  }
}

TEST_P(CudaFloatProduct, ARowHasTheSameBitsInEveryBatchOfAFamily) {
  ProductShape shape = plain_shape(80, 328, 4, GetParam());
  shape.has_bias = true;
  expect_same_bits(shape, {{GemmVariant::gemv_4, 4},
                           {GemmVariant::gemv_4, 3},
                           {GemmVariant::gemv_2, 2},
                           {GemmVariant::gemv_1, 1}});
  shape = plain_shape(80, 1032, 70, GetParam());
  shape.has_residual = true;
  expect_same_bits(shape, {{GemmVariant::tile_64x128, 70},
                           {GemmVariant::tile_32x64, 30},
                           {GemmVariant::tile_16x64, 9},
                           {GemmVariant::tile_16x64, 1}});
  shape = plain_shape(72, 200, 140, GetParam());
  expect_same_bits(
      shape,
      {{GemmVariant::tile_128x256, 140}, {GemmVariant::tile_128x128, 135}, {GemmVariant::tile_64x128, 129}});
}

// Goal: what no half can hold saturates. Method: inputs of up to twice the largest half; a tile computes what
// it would with 65504 in their place, a gemv has no limit.
TEST(CudaF16Product, SaturatesInputsBeyondTheRangeOfHalves) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(6000 + i);
    const bool is_gemv = i % 6 == 5;
    const GemmVariant variant = is_gemv ? GemmVariant::gemv_4 : kTiles[i % 6];
    ProductShape shape =
        plain_shape(random_width(random), random_depth(random), 1 + random.below(is_gemv ? 4 : 20));
    shape.largest_input = 65504 * 2;
    if (!is_gemv) shape.input_limit = 65504;
    ProductCase test = make_product(shape, random);
    EXPECT_TRUE(multiply(test, variant, schedule_of(i)));
    EXPECT_LE(largest_distance(test), kF32Tolerance) << describe(test);
  }
}

// Goal: what the smallest inputs lose is what gemm.h says: 2^-25 each, times the weights.
TEST(CudaF16Product, LosesOfSmallInputsAtMostHalfOfTheSmallestHalf) {
  for (const GemmVariant variant : kTiles) {
    Random random(6500);
    ProductShape shape = plain_shape(64, 64, 16);
    shape.largest_input = 0x1p-20f;
    ProductCase test = make_product(shape, random);
    EXPECT_TRUE(multiply(test, variant, schedule_of(1)));
    double largest = 0;
    for (int64_t at = 0; at < 16 * 64; ++at) {
      const int64_t row = at / 64;
      const int64_t col = at % 64;
      const double found = test.out[row * test.args.out_stride + col];
      largest = std::max(largest, std::abs(found - expected_output(test, row, col)));
    }
    EXPECT_LE(largest, 1.5 * 64 * 1.7 * 0x1p-25) << static_cast<int>(variant);
    EXPECT_GT(largest, 0) << "nothing was that small";
  }
}

// A row with one infinity or NaN, of either sign and in either half of a word; the rows beside it are as they
// were.
TEST(CudaF16Product, ShowsInfinitiesAndNaN) {
  constexpr uint16_t kBits[] = {0x7f80, 0xff80, 0x7fc0, 0xffc0, 0x7f81};
  for (int i = 0; i < 60; ++i) {
    Random random(7000 + i);
    const GemmVariant variant = i % 6 == 5 ? GemmVariant::gemv_4 : kTiles[i % 6];
    ProductCase test = make_product(plain_shape(65, 72, 4), random);
    const int64_t row = random.below(4);
    test.in[row * test.args.in_stride + random.below(72)].bits = kBits[i % 5];
    EXPECT_TRUE(multiply(test, variant, schedule_of(i)));
    for (int64_t at = 0; at < 4 * 65; ++at) {
      const float found = test.out[at / 65 * test.args.out_stride + at % 65];
      EXPECT_EQ(std::isfinite(found), at / 65 != row) << "case " << i << ", row " << at / 65 << ": " << found;
    }
  }
}

TEST(CudaGemm, LeavesAloneWhatHasNoRows) {
  cuda::ProductArgs args;
  args.w.n = 64;
  args.w.k = 64;
  EXPECT_EQ(cuda::gemm_launch(args).kernel, nullptr);
}

}  // namespace
}  // namespace autoglm::test
