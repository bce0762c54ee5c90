// Products with quantized weights against float64, on random shapes, formats, tiles and every schedule.
#include <gtest/gtest.h>

#include "product_case.h"

namespace autoglm::test {
namespace {

Format random_format(Random& random) {
  constexpr int kGroups[] = {16, 32, 64, 128};
  return {.layout = random.below(2) == 0 ? cuda::DeviceLayout::w4 : cuda::DeviceLayout::w8,
          .group = kGroups[random.below(4)],
          .has_mins = random.below(2) == 0,
          .has_factors = random.below(2) == 0};
}

int64_t random_count(Random& random, int64_t most) {
  constexpr int64_t kEdges[] = {0, 1, 7, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129};
  const int64_t count = random.below(2) == 0 ? kEdges[random.below(13)] : random.below(most + 1);
  return std::min(count, most);
}

// Small outside, deep enough for several stripes; the costly ones have few rows.
void choose_shape(ProductCase& test, Random& random, bool has_experts) {
  const Format format = random_format(random);
  const int64_t step = std::max(format.group, 32);
  const int64_t most_k = has_experts ? 600 : random.below(4) == 0 ? 1400 : 300;
  const int64_t k = step * (1 + random.below(most_k / step + 1));
  int64_t n = 1 + random.below(k > 400 ? 64 : 330);
  test.args.epilogue = static_cast<cuda::Epilogue>(random.below(3));
  if (test.args.epilogue == cuda::Epilogue::gated) n = cuda::ceil_div(n, 16) * 16;
  const int64_t num_experts = has_experts ? 1 + random.below(40) : 1;
  const int64_t work = k * n * (has_experts ? 3 : 1);
  test.weights =
      random_weights(random, format, static_cast<int32_t>(has_experts ? std::min<int64_t>(n, 48) : n),
                     static_cast<int32_t>(k), static_cast<int32_t>(num_experts));
  test.args.num_rows = static_cast<int32_t>(random_count(random, work > 30000 ? 20 : has_experts ? 70 : 150));
}

void choose_operands(ProductCase& test, Random& random) {
  cuda::ProductArgs& args = test.args;
  args.w = test.weights.matrix();
  args.activation = static_cast<Activation>(random.below(4));
  args.scale = random.below(2) == 0 ? 1.0f : 0.25f;
  args.in_stride = args.w.k + 8 * random.below(3);
  args.out_stride = args.num_outputs() + random.below(3);
  const bool gathers = random.below(2) == 0;
  const int64_t in_rows = gathers ? 1 + random.below(20) : args.num_rows;
  for (int64_t i = 0; i < args.num_rows && gathers; ++i) {
    test.input_rows.push_back(static_cast<int32_t>(random.below(in_rows)));
  }
  test.in = to_bf16s(random.normals(in_rows * args.in_stride));
  for (int64_t row = 0; row < in_rows; ++row) {  // what lies between the rows is never read
    for (int64_t i = args.w.k; i < args.in_stride; ++i) test.in[row * args.in_stride + i] = {0x7fff};
  }
  const int64_t outputs = args.num_rows * args.out_stride;
  if (random.below(2) == 0) {
    test.out.assign(outputs, NAN);
  } else {
    test.out_bf16.assign(outputs, cuda::Bf16{0xffff});
  }
  if (args.epilogue == cuda::Epilogue::plain && random.below(2) == 0) {
    test.residual = random.normals(outputs);
    if (!test.out.empty() && random.below(2) == 0) test.out = test.residual;  // in place
  }
}

// Experts of no, few and many pairs.
void choose_experts(ProductCase& test, Random& random) {
  const int32_t num_experts = test.weights.num_experts;
  std::vector<int32_t> counts(num_experts, 0);
  const int64_t favoured = 1 + random.below(num_experts);
  for (int32_t i = 0; i < test.args.num_rows; ++i) counts[random.below(favoured)] += 1;
  test.first_pairs.push_back(0);
  for (const int32_t count : counts) test.first_pairs.push_back(test.first_pairs.back() + count);
  test.args.experts = {.first_pairs = test.first_pairs.data(),
                       .num_experts = num_experts,
                       .weight_stride = test.weights.code_words() * 4,
                       .scale_stride = test.weights.num_scales() * 2,
                       .row_factor_stride = cuda::num_panels(test.args.w.n)};
}

// The launcher's, or any that may take the product.
void choose_tile(ProductCase& test, Random& random) {
  const int tile = static_cast<int>(random.below(2 * cuda::kNumQuantizedTiles));
  if (tile < cuda::kNumQuantizedTiles &&
      cuda::may_take(cuda::problem_of(test.args), cuda::kQuantizedTiles[tile])) {
    test.tile = tile;
  }
}

ProductCase make_case(Random& random, bool has_experts) {
  ProductCase test;
  choose_shape(test, random, has_experts);
  choose_operands(test, random);
  if (has_experts) {
    choose_experts(test, random);
  } else if (random.below(2) == 0) {
    test.bias = random.normals(test.args.w.n);
  }
  choose_tile(test, random);
  compute_expected(test);
  return test;
}

// Experts of two or three bands, and of several stripes where k is long.
ProductCase make_case_of_bands(Random& random) {
  ProductCase test;
  const Format format = random_format(random);
  const int64_t step = std::max(format.group, 32);
  const int64_t k = step * (1 + random.below(768 / step));
  test.args.epilogue = static_cast<cuda::Epilogue>(random.below(3));
  const int64_t n = cuda::kBandRows + 16 * (1 + random.below(20));
  test.weights = random_weights(random, format, static_cast<int32_t>(n), static_cast<int32_t>(k),
                                static_cast<int32_t>(2 + random.below(3)));
  test.args.num_rows = static_cast<int32_t>(1 + random.below(12));
  choose_operands(test, random);
  choose_experts(test, random);
  choose_tile(test, random);
  compute_expected(test);
  return test;
}

void expect_expected(ProductCase& test, int shape) {
  SCOPED_TRACE("shape " + std::to_string(shape));
  const std::vector<float> found = run_case(test, schedule_of(shape));
  EXPECT_TRUE(test.leaves_tickets);
  EXPECT_LE(relative_distance(found, test.expected), test.out.empty() ? kBf16Tolerance : kF32Tolerance);
}

void compare_random_shapes(int first_seed, bool has_experts) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    Random random(first_seed + shape);
    ProductCase test = make_case(random, has_experts);
    expect_expected(test, shape);
  }
}

TEST(CudaQuantizedProduct, AgreesWithFloat64OnRandomShapes) { compare_random_shapes(4000, false); }

TEST(CudaQuantizedProduct, AgreesWithFloat64ForExperts) { compare_random_shapes(5000, true); }

// Goal: a block that goes on to the next band stays with its expert. Method: matrices longer than a band.
TEST(CudaQuantizedProduct, AgreesWithFloat64ForExpertsOfSeveralBands) {
  for (int shape = 0; shape < (kNumShapes + 3) / 4; ++shape) {
    Random random(5500 + shape);
    ProductCase test = make_case_of_bands(random);
    expect_expected(test, shape);
  }
}

// Goal: batching is invisible. Method: one row alone, and the same row last of as many as each tile is for;
// a matrix of several stripes whose ends lie inside its bands.
TEST(CudaQuantizedProduct, GivesARowTheSameBitsInAnyBatchAndTile) {
  for (const Format format : {Format{.group = 128}, Format{.group = 16, .has_mins = true},
                              Format{.layout = cuda::DeviceLayout::w8, .group = 32}}) {
    Random random(6000);
    ProductCase test;
    test.weights = random_weights(random, format, 290, 1280);
    ASSERT_TRUE(cuda::stripes_of(290, 1280).is_cut(0) && cuda::stripes_of(290, 1280).is_cut(1));
    const std::vector<float> row = random.normals(1280);
    const std::vector<float> other = random.normals(1280);
    std::vector<float> first;
    for (int tile = 0; tile < cuda::kNumQuantizedTiles; ++tile) {
      for (const int32_t rows : {1, cuda::kQuantizedTiles[tile].tokens() + 1}) {
        if (rows > 40 && tile != cuda::kNumQuantizedTiles - 1) continue;
        test.tile = tile;
        test.args = {};
        test.args.w = test.weights.matrix();
        test.args.in_stride = 1280;
        test.args.out_stride = 290;
        test.args.num_rows = rows;
        if (!cuda::may_take(cuda::problem_of(test.args), cuda::kQuantizedTiles[tile])) continue;
        test.in.clear();
        for (int32_t i = 0; i < rows; ++i) {
          for (const float each : i + 1 == rows ? row : other) test.in.push_back(to_bf16(each));
        }
        test.out.assign(rows * 290, NAN);
        const std::vector<float> found = run_case(test, schedule_of(tile));
        const std::vector<float> last(found.end() - 290, found.end());
        if (first.empty()) first = last;
        EXPECT_EQ(last, first) << "tile " << tile << ", " << rows << " rows";
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::test
