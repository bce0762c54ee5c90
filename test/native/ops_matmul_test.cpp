// Products against float64 sums, on every instruction set, and the promise that a row's bits do not depend on
// its neighbours, the chunks or the threads.
#include "ops/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "back_ends.h"
#include "base/error.h"
#include "ops/quantize_rows.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

constexpr StoredFormat kFormats[] = {
#define AUTOGLM_STORED_FORMAT(name, ...) StoredFormat::name,
#include "base/formats.def"
#undef AUTOGLM_STORED_FORMAT
};

struct Shape {
  int64_t n, k, num_rows;
};

// One product with everything it needs.
class Product {
 public:
  Product(Random& random, StoredFormat format, Precision precision, Shape shape)
      : Product(random, random_weights(random, format, precision, shape.n, shape.k), shape) {}

  Product(Random& random, PackedWeights packed, Shape shape)
      : weights(std::move(packed)),
        in(random.normals(shape.num_rows * shape.k)),
        bias(random.normals(shape.n)),
        residual(random.normals(shape.num_rows * shape.n)),
        out(shape.num_rows * shape.n, NAN),
        shape_(shape),
        int8_memory_(weights.matrix.takes_int8() ? quantized_rows_bytes(shape.num_rows, shape.k) : 64) {
    if (weights.matrix.takes_int8()) {
      quantized = make_quantized_rows(shape.num_rows, shape.k, int8_memory_.bytes());
    }
  }

  MatmulParams params() {
    MatmulParams params;
    params.weights = weights.matrix;
    params.in = TensorView<const float>(in.data(), shape_.num_rows, shape_.k);
    params.quantized = quantized;
    params.out = TensorView<float>(out.data(), shape_.num_rows, shape_.n);
    return params;
  }

  void quantize(const Execution& execution) {
    if (quantized.is_present()) quantize_rows(execution, {in.data(), shape_.num_rows, shape_.k}, quantized);
  }

  // The activation as the product sees it.
  double activation(const BackEnd& back_end, int64_t row, int64_t col) const {
    const int64_t index = row * shape_.k + col;
    if (!quantized.is_present()) return back_end.float_input(weights.matrix, in[index]);
    return double{quantized.groups[index / 32].scale} * quantized.values[index];
  }

  PackedWeights weights;
  std::vector<float> in;
  std::vector<float> bias;
  std::vector<float> residual;
  std::vector<float> out;
  QuantizedRows quantized;

 private:
  Shape shape_;
  AlignedBytes int8_memory_;
};

// Each of the k roundings of the chain is at most half an ulp of a partial sum, which the sum of magnitudes
// bounds; a half-rounded scale (fast K-quants) adds 2^-11 of each term.
double tolerance(double magnitude, int64_t k, bool has_rounded_scales) {
  return magnitude * (static_cast<double>(k + 4) * 0x1p-24 + (has_rounded_scales ? 0x1p-11 : 0));
}

void expect_product(const BackEnd& back_end, Product& product, Shape shape, bool has_epilogue, float scale,
                    bool has_rounded_scales) {
  for (int64_t row = 0; row < shape.num_rows; ++row) {
    for (int64_t i = 0; i < shape.n; ++i) {
      double sum = 0, magnitude = 0;
      for (int64_t col = 0; col < shape.k; ++col) {
        const double term =
            double{product.weights.values[i * shape.k + col]} * product.activation(back_end, row, col);
        sum += term;
        magnitude += std::fabs(term);
      }
      if (has_rounded_scales) magnitude *= 2;  // q * scale and min may cancel
      double expected = sum;
      if (has_epilogue) {
        expected = product.residual[row * shape.n + i] + scale * (sum + product.bias[i]);
        magnitude += std::fabs(product.bias[i]) + std::fabs(product.residual[row * shape.n + i]);
      }
      const double bound = tolerance(magnitude, shape.k, has_rounded_scales);
      ASSERT_NEAR(product.out[row * shape.n + i], expected, bound) << "row " << row << ", output " << i;
    }
  }
}

class Matmul : public testing::TestWithParam<BackEnd> {};

INSTANTIATE_TEST_SUITE_P(Isa, Matmul, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

// Goal: every layout, precision and tile size is right, at ragged edges too.
// Method: random shapes against float64 sums over the same (quantized) activations and dequantized weights.
TEST_P(Matmul, EqualsTheFloat64SumForEveryFormatAndShape) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(11);
  for (const StoredFormat format : kFormats) {
    const StoredFormatInfo& info = info_of(format);
    for (const Precision precision : {Precision::fast, Precision::exact}) {
      for (int64_t num_rows = 1; num_rows <= 9; ++num_rows) {
        const Shape shape = {.n = 1 + random.below(100),
                             .k = info.elements_per_block == 1
                                      ? 1 + random.below(150)
                                      : info.elements_per_block * (1 + random.below(3)),
                             .num_rows = num_rows};
        SCOPED_TRACE(std::string(info.name) + (precision == Precision::fast ? " fast [" : " exact [") +
                     std::to_string(shape.n) + ", " + std::to_string(shape.k) + "] x " +
                     std::to_string(num_rows));
        Product product(random, format, precision, shape);
        product.quantize(execution);
        MatmulParams params = product.params();
        const bool has_epilogue = num_rows % 2 == 0;
        params.scale = has_epilogue ? 0.75f : 1;
        if (has_epilogue) {
          params.bias = product.bias.data();
          params.residual = TensorView<const float>(product.residual.data(), num_rows, shape.n);
        }
        matmul(execution, params);
        const bool has_rounded_scales = precision == Precision::fast && info.exact_scales == ScaleType::f32;
        expect_product(GetParam(), product, shape, has_epilogue, params.scale, has_rounded_scales);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

// Goal: the same for the packed formats that no block format of GGUF becomes, and for all others once more.
TEST_P(Matmul, EqualsTheFloat64SumForEveryPackedFormat) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(16);
  for (PackedFormat format : kQuantizedFormats) {
    for (const Precision precision : {Precision::fast, Precision::exact}) {
      format.scale_type = precision == Precision::fast ? ScaleType::f16 : ScaleType::f32;
      for (const int64_t num_rows : {1, 2, 7}) {
        const Shape shape = {
            .n = 1 + random.below(70), .k = 32 * (1 + random.below(5)), .num_rows = num_rows};
        SCOPED_TRACE(std::string(name_of(format.layout)) + (format.has_min ? " with mins, " : ", ") +
                     std::to_string(format.scales_per_group) + " scales, rows " + std::to_string(num_rows));
        Product product(random, random_group_weights(random, format, precision, shape.n, shape.k), shape);
        product.quantize(execution);
        matmul(execution, product.params());
        expect_product(GetParam(), product, shape, false, 1, format.has_min);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

// Goal: no sum of integers overflows on its way. Method: each code alone in a matrix, against the largest
// activations, of one sign and of both.
TEST_P(Matmul, HoldsTheLargestSums) {
  ThreadPool pool(1);
  const Execution execution(pool, *GetParam().kernels);
  const Shape shape = {.n = 32, .k = 64, .num_rows = 4};
  for (const PackedFormat& format : kQuantizedFormats) {
    const int bits = format.layout == ComputeLayout::q8 ? 8 : format.layout == ComputeLayout::q6 ? 6 : 4;
    for (int code = 0; code < 1 << bits; ++code) {
      SCOPED_TRACE(std::string(name_of(format.layout)) + ", code " + std::to_string(code));
      std::vector<GroupCodes> groups(shape.n * shape.k / kGroup);
      for (GroupCodes& group : groups) {
        std::fill_n(group.codes, kGroup, static_cast<uint8_t>(code));
        group.scales[0] = group.scales[1] = 1;
        group.mins[0] = group.mins[1] = 0;
      }
      PackedWeights packed = pack_groups(format, Precision::fast, shape.n, shape.k, groups);
      const int value = code_value(format.layout, format.has_min, static_cast<uint8_t>(code));
      std::fill(packed.values.begin(), packed.values.end(), static_cast<float>(value));
      Random random(17);
      Product product(random, std::move(packed), shape);
      for (size_t i = 0; i < product.in.size(); ++i) {
        const size_t row = i / shape.k;
        product.in[i] = row == 0 || (row > 1 && i % row == 0) ? 1.0f : -1.0f;
      }
      product.quantize(execution);
      matmul(execution, product.params());
      expect_product(GetParam(), product, shape, false, 1, false);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// Goal: batching is invisible bit for bit.
// Method: 70 rows at once, on one and on three threads, against each row alone.
TEST_P(Matmul, GivesARowTheSameBitsAloneAndInAnyBatch) {
  ThreadPool one_thread(1);
  ThreadPool three_threads(3);
  Random random(12);
  for (const StoredFormat format : kFormats) {
    for (const Precision precision : {Precision::fast, Precision::exact}) {
      SCOPED_TRACE(std::string(info_of(format).name) + (precision == Precision::fast ? " fast" : " exact"));
      const Shape shape = {.n = 100, .k = 512, .num_rows = 70};
      Product product(random, format, precision, shape);
      const Execution alone(one_thread, *GetParam().kernels);
      const Execution together(three_threads, *GetParam().kernels);
      product.quantize(alone);
      matmul(together, product.params());
      const std::vector<float> batched = product.out;
      for (const int64_t num_rows : {1, 2, 3, 4, 5, 6, 7, 8, 31}) {
        std::fill(product.out.begin(), product.out.end(), NAN);
        for (int64_t row = 0; row < shape.num_rows; row += num_rows) {
          const int64_t count = std::min(num_rows, shape.num_rows - row);
          MatmulParams params = product.params();
          params.in = params.in.rows(row, count);
          if (params.quantized.is_present()) params.quantized = params.quantized.rows(row, count);
          params.out = params.out.rows(row, count);
          matmul(alone, params);
        }
        ASSERT_EQ(std::memcmp(batched.data(), product.out.data(), batched.size() * sizeof(float)), 0)
            << num_rows << " rows at a time";
      }
    }
  }
}

TEST_P(Matmul, WritesNothingOutsideItsColumns) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  Random random(13);
  const Shape shape = {.n = 37, .k = 64, .num_rows = 5};
  Product product(random, StoredFormat::q4_1, Precision::fast, shape);
  product.quantize(execution);
  std::vector<float> wide(5 * 50, 7.0f);
  MatmulParams params = product.params();
  params.out = TensorView<float>(wide.data() + 6, 5, 37, 50);
  matmul(execution, params);
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t col = 0; col < 50; ++col) {
      const bool is_outside = col < 6 || col >= 43;
      EXPECT_EQ(wide[row * 50 + col] == 7.0f, is_outside) << "row " << row << ", column " << col;
    }
  }
}

TEST_P(Matmul, ShowsANanOrInfinityOfItsInput) {
  ThreadPool pool(1);
  const Execution execution(pool, *GetParam().kernels);
  Random random(14);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const Precision precision : {Precision::fast, Precision::exact}) {
      const Shape shape = {.n = 32, .k = 96, .num_rows = 2};
      Product product(random, StoredFormat::q4_0, precision, shape);
      product.in[40] = bad;
      product.quantize(execution);
      matmul(execution, product.params());
      for (int64_t i = 0; i < 32; ++i) {
        EXPECT_FALSE(std::isfinite(product.out[i])) << "output " << i << " hides " << bad;
        EXPECT_TRUE(std::isfinite(product.out[32 + i])) << "output " << i << " of the other row";
      }
    }
  }
}

TEST(MatmulChecks, RefusesOperandsThatDoNotFit) {
  ThreadPool pool(1);
  const Execution execution(pool, Isa::plain);
  Random random(15);
  const Shape shape = {.n = 32, .k = 64, .num_rows = 2};
  Product product(random, StoredFormat::q8_0, Precision::fast, shape);
  product.quantize(execution);
  const auto expect_refusal = [&](MatmulParams params) {
    try {
      matmul(execution, params);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::invalid_parameter) << error.what();
    }
  };
  MatmulParams params = product.params();
  params.quantized = {};
  expect_refusal(params);
  params = product.params();
  params.quantized.num_cols = 32;
  expect_refusal(params);
  params = product.params();
  params.out.num_cols = 31;
  expect_refusal(params);
  params = product.params();
  params.residual = TensorView<const float>(product.residual.data(), 1, 32);
  expect_refusal(params);
}

}  // namespace
}  // namespace autoglm::test
