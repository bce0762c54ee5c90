// A norm in the stage of the product that reads it, against the two one after the other: the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "back_ends.h"
#include "base/error.h"
#include "ops/gated_matmul.h"
#include "ops/matmul.h"
#include "ops/matmul_chunks.h"
#include "ops/norm.h"
#include "ops/quantize_rows.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

struct Case {
  StoredFormat format = StoredFormat::q8_0;
  NormKind kind = NormKind::rms;
  int64_t n = 96, k = 64, num_rows = 1;
};

// Rows behind a norm, a product of them, and a gated one.
class NormedProduct {
 public:
  NormedProduct(Random& random, const Case& c)
      : case_(c),
        gate_(random_weights(random, c.format, Precision::fast, c.n, c.k)),
        up_(random_weights(random, c.format, Precision::fast, c.n, c.k)),
        in_(random.normals(c.num_rows * c.k)),
        norm_weight_(random.normals(c.k)),
        norm_bias_(random.normals(c.k)),
        residual_(random.normals(c.num_rows * c.n)),
        normed_floats_(c.num_rows * c.k),
        normed_int8_(quantized_rows_bytes(c.num_rows, c.k)) {
    forget_norm();
  }

  NormParams norm_params() {
    NormParams params{.kind = case_.kind,
                      .epsilon = 1e-5F,
                      .has_unit_offset = case_.kind == NormKind::rms,
                      .in = {in_.data(), case_.num_rows, case_.k},
                      .weight = norm_weight_.data(),
                      .bias = case_.kind == NormKind::layer ? norm_bias_.data() : nullptr,
                      .residual = {},
                      .out = {},
                      .quantized = {}};
    if (up_.matrix.takes_int8()) {
      params.quantized = make_quantized_rows(case_.num_rows, case_.k, normed_int8_.bytes());
    } else {
      params.out = {normed_floats_.data(), case_.num_rows, case_.k};
    }
    return params;
  }
  MatmulParams product(std::vector<float>& out) {
    out.assign(case_.num_rows * case_.n, NAN);
    const NormParams norm = norm_params();
    return {.weights = up_.matrix,
            .in = norm.out,
            .quantized = norm.quantized,
            .residual = {residual_.data(), case_.num_rows, case_.n},
            .scale = 0.5F,
            .out = {out.data(), case_.num_rows, case_.n}};
  }
  GatedMatmulParams gated(std::vector<float>& out) {
    const MatmulParams up = product(out);
    return {.gate = gate_.matrix,
            .up = up.weights,
            .in = up.in,
            .quantized_in = up.quantized,
            .activation = Activation::silu,
            .out = up.out,
            .quantized = {}};
  }

  void forget_norm() {
    std::ranges::fill(normed_floats_, NAN);
    std::ranges::fill(normed_int8_.bytes(), std::byte{0x7f});
  }
  bool has_norm() {
    if (!up_.matrix.takes_int8()) return !std::isnan(normed_floats_.front());
    return normed_int8_.bytes().front() != std::byte{0x7f} || normed_int8_.bytes()[1] != std::byte{0x7f};
  }

 private:
  Case case_;
  PackedWeights gate_, up_;
  std::vector<float> in_, norm_weight_, norm_bias_, residual_, normed_floats_;
  AlignedBytes normed_int8_;
};

class NormedMatmul : public testing::TestWithParam<BackEnd> {};

INSTANTIATE_TEST_SUITE_P(Isa, NormedMatmul, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

bool has_equal_bits(const std::vector<float>& left, const std::vector<float>& right) {
  return std::memcmp(left.data(), right.data(), left.size() * sizeof(float)) == 0;
}

// Goal: one stage or two, the bits are the same, whatever the shape, the input and the threads.
TEST_P(NormedMatmul, HasTheBitsOfItsOperations) {
  ThreadPool one_thread(1), three_threads(3);
  Random random(31);
  for (const int64_t num_rows : {1, 2, 3, 9, 64, 130}) {
    for (const StoredFormat format : {StoredFormat::q4_1, StoredFormat::q8_0, StoredFormat::bf16}) {
      const Case c{.format = format,
                   .kind = random.below(2) == 0 ? NormKind::rms : NormKind::layer,
                   .n = 75 + 200 * random.below(2),
                   .k = 32 * (1 + random.below(20)),
                   .num_rows = num_rows};
      SCOPED_TRACE(std::string(info_of(format).name) + ", rows " + std::to_string(num_rows) + ", inputs " +
                   std::to_string(c.k));
      NormedProduct each(random, c);
      std::vector<float> expected, expected_gated, found;
      const Execution alone(one_thread, *GetParam().kernels);
      norm(alone, each.norm_params());
      matmul(alone, each.product(expected));
      gated_matmul(alone, each.gated(expected_gated));
      for (ThreadPool* pool : {&one_thread, &three_threads}) {
        const Execution execution(*pool, *GetParam().kernels);
        each.forget_norm();
        normed_matmul(execution, each.norm_params(), each.product(found));
        ASSERT_TRUE(has_equal_bits(found, expected)) << pool->num_threads() << " threads";
        each.forget_norm();
        normed_gated_matmul(execution, each.norm_params(), each.gated(found));
        ASSERT_TRUE(has_equal_bits(found, expected_gated)) << pool->num_threads() << " threads";
      }
    }
  }
}

// Goal: few rows are normed in the product's stage, many are shared out before it, and neither happens where
// another operation reads what the norm gives. Method: whether the norm's own output was written.
TEST_P(NormedMatmul, NormsFewRowsInTheProductsStage) {
  if (!kMayReplay) GTEST_SKIP() << "no stage is replayable under the thread sanitizer";
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(32);
  std::vector<float> out;
  for (const StoredFormat format : {StoredFormat::q4_1, StoredFormat::bf16}) {
    for (const auto& [num_rows, is_apart] : {std::pair(1, false), std::pair(4, false), std::pair(70, true)}) {
      NormedProduct each(random, {.format = format, .k = 1024, .num_rows = num_rows});
      normed_matmul(execution, each.norm_params(), each.product(out));
      EXPECT_EQ(each.has_norm(), is_apart) << num_rows << " rows";
      each.forget_norm();
      normed_gated_matmul(execution, each.norm_params(), each.gated(out));
      EXPECT_EQ(each.has_norm(), is_apart) << num_rows << " rows";
    }
  }
  NormedProduct wide(random, {.format = StoredFormat::bf16, .k = 8224});  // more than a thread keeps
  normed_matmul(execution, wide.norm_params(), wide.product(out));
  EXPECT_TRUE(wide.has_norm());

  NormedProduct each(random, {.format = StoredFormat::q4_1});
  std::vector<float> floats(64);
  NormParams both = each.norm_params();
  both.out = {floats.data(), 1, 64};
  normed_matmul(execution, both, each.product(out));
  EXPECT_TRUE(each.has_norm());
  EXPECT_NE(floats.front(), 0);
}

TEST_P(NormedMatmul, RefusesANormThatDoesNotFit) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(33);
  NormedProduct each(random, {});
  std::vector<float> out;
  NormParams norm = each.norm_params();
  norm.weight = nullptr;
  EXPECT_THROW(normed_matmul(execution, norm, each.product(out)), Error);
  EXPECT_THROW(normed_gated_matmul(execution, norm, each.gated(out)), Error);
}

}  // namespace
}  // namespace autoglm::test
