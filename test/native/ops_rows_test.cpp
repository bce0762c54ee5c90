// Norms, activations and int8 activations against float64, on every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "back_ends.h"
#include "base/error.h"
#include "ops/activation.h"
#include "ops/norm.h"
#include "ops/quantize_rows.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

class Rows : public testing::TestWithParam<BackEnd> {
 protected:
  ThreadPool pool_{2};
  Execution execution_{pool_, *GetParam().kernels};
};

INSTANTIATE_TEST_SUITE_P(Isa, Rows, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

struct NormCase {
  int64_t num_rows, num_cols;
  NormKind kind;
  bool has_unit_offset, has_bias, has_residual;
};

std::vector<double> reference_norm(const NormCase& test, const std::vector<float>& in,
                                   const std::vector<float>& weight, const std::vector<float>& bias,
                                   const std::vector<float>& residual, double epsilon) {
  std::vector<double> out(in.size());
  for (int64_t row = 0; row < test.num_rows; ++row) {
    const float* x = in.data() + row * test.num_cols;
    double mean = 0, squares = 0;
    if (test.kind == NormKind::layer) {
      for (int64_t i = 0; i < test.num_cols; ++i) mean += x[i];
      mean /= static_cast<double>(test.num_cols);
    }
    for (int64_t i = 0; i < test.num_cols; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(test.num_cols) + epsilon);
    for (int64_t i = 0; i < test.num_cols; ++i) {
      double y = (x[i] - mean) * inverse * (weight[i] + (test.has_unit_offset ? 1.0 : 0.0));
      if (test.has_bias) y += bias[i];
      if (test.has_residual) y = residual[row * test.num_cols + i] + 0.5 * y;
      out[row * test.num_cols + i] = y;
    }
  }
  return out;
}

// Tolerance: 1e-5 of the largest output, the bar set against transformers in float32; f32 sums of up to 1,000
// squares over at least 8 lanes stay below it.
TEST_P(Rows, NormsEqualFloat64) {
  Random random(21);
  const NormCase cases[] = {
      {1, 576, NormKind::rms, false, false, false}, {5, 33, NormKind::rms, true, false, true},
      {3, 7, NormKind::rms, false, false, true},    {4, 1000, NormKind::layer, false, true, false},
      {6, 61, NormKind::layer, false, false, true}, {2, 1, NormKind::rms, false, false, false},
  };
  for (const NormCase& test : cases) {
    SCOPED_TRACE(std::to_string(test.num_rows) + " x " + std::to_string(test.num_cols));
    const int64_t size = test.num_rows * test.num_cols;
    std::vector<float> in = random.normals(size, 3);
    for (float& each : in) each += 1;
    const std::vector<float> weight = random.normals(test.num_cols);
    const std::vector<float> bias = random.normals(test.num_cols);
    const std::vector<float> residual = random.normals(size);
    std::vector<float> out(size, NAN);
    NormParams params;
    params.kind = test.kind;
    params.epsilon = 1e-5f;
    params.has_unit_offset = test.has_unit_offset;
    params.in = TensorView<const float>(in.data(), test.num_rows, test.num_cols);
    params.weight = weight.data();
    if (test.has_bias) params.bias = bias.data();
    if (test.has_residual) {
      params.residual = TensorView<const float>(residual.data(), test.num_rows, test.num_cols);
      params.residual_scale = 0.5f;
    }
    params.out = TensorView<float>(out.data(), test.num_rows, test.num_cols);
    norm(execution_, params);
    const std::vector<double> expected = reference_norm(test, in, weight, bias, residual, 1e-5);
    for (int64_t i = 0; i < size; ++i) ASSERT_NEAR(out[i], expected[i], 1e-5 * 12) << "value " << i;
  }
}

double squared_error(std::span<const float> values, double scale) {
  double sum = 0;
  for (const float value : values) {
    const double error = value - scale * std::nearbyint(value / scale);
    sum += error * error;
  }
  return sum;
}

// Each group is rounded to nearest and carries the sums the products rely on.
void expect_rounded(std::span<const float> in, const QuantizedRows& quantized) {
  for (size_t group = 0; group * 32 < in.size(); ++group) {
    const ActivationGroup& found = quantized.groups[group];
    int low_sum = 0, sum = 0;
    for (size_t i = 0; i < 32; ++i) {
      const int value = quantized.values[group * 32 + i];
      EXPECT_NEAR(in[group * 32 + i], found.scale * static_cast<float>(value), found.scale * 0.5001f);
      sum += value;
      if (i < 16) low_sum += value;
    }
    EXPECT_EQ(found.negative_sum, -sum);
    EXPECT_EQ(found.negative_low_sum, -low_sum);
    EXPECT_EQ(found.scaled_sum, found.scale * static_cast<float>(sum));
  }
}

float largest_of(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  return largest;
}

// Goal: a norm gathers rows, and its groups take the best of four scales, with the float output or without.
// The kernel compares errors without their last two bits: 1e-5 of slack.
TEST_P(Rows, ANormGathersRowsAndQuantizesInTheSamePass) {
  Random random(22);
  std::vector<float> in = random.normals(6 * 64);
  std::fill(in.begin() + 4 * 64, in.begin() + 4 * 64 + 32, 0.0f);
  in[40] = -1000;  // an outlier of its group
  const std::vector<float> weight = random.normals(64);
  const std::vector<int32_t> rows = {4, 0, 4, 5};
  std::vector<float> out(4 * 64, NAN);
  AlignedBytes memory(quantized_rows_bytes(4, 64));
  NormParams params;
  params.epsilon = 1e-6f;
  params.in = TensorView<const float>(in.data(), 6, 64);
  params.input_rows = rows.data();
  params.weight = weight.data();
  params.out = TensorView<float>(out.data(), 4, 64);
  params.quantized = make_quantized_rows(4, 64, memory.bytes());
  norm(execution_, params);
  EXPECT_TRUE(std::equal(out.begin(), out.begin() + 64, out.begin() + 128)) << "rows 0 and 2 are both row 4";
  expect_rounded(out, params.quantized);
  for (size_t group = 0; group < 8; ++group) {
    const std::span<const float> values(out.data() + group * 32, 32);
    const double largest = largest_of(values);
    const float scale = params.quantized.groups[group].scale;
    if (largest == 0) {
      EXPECT_EQ(scale, 0);
      continue;
    }
    double least = std::numeric_limits<double>::infinity();
    for (const int code : {127, 124, 121, 118})
      least = std::min(least, squared_error(values, largest / code));
    EXPECT_LE(squared_error(values, scale), least * (1 + 1e-5)) << "group " << group;
  }
  const std::vector<int8_t> values(params.quantized.values, params.quantized.values + 4 * 64);
  params.out = {};
  norm(execution_, params);
  EXPECT_EQ(std::memcmp(params.quantized.values, values.data(), values.size()), 0)
      << "without the float output";
}

// Goal: elsewhere the scale is max / 127.
TEST_P(Rows, QuantizedGroupsHoldRoundedValuesAndTheirSums) {
  Random random(23);
  std::vector<float> in = random.normals(3 * 96);
  for (int i = 0; i < 32; ++i) in[i] = 0;
  in[40] = -1000;  // an outlier of its group
  AlignedBytes memory(quantized_rows_bytes(3, 96));
  const QuantizedRows out = make_quantized_rows(3, 96, memory.bytes());
  quantize_rows(execution_, {in.data(), 3, 96}, out);
  expect_rounded(in, out);
  for (size_t group = 0; group < 9; ++group) {
    EXPECT_EQ(out.groups[group].scale, largest_of(std::span(in).subspan(group * 32, 32)) / 127);
  }
}

double reference_activation(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return std::max(x, 0.0);
  }
  return 0;
}

// Tolerance: the elementary functions are within 2e-7 (cpu/vector_math.h), times |x| and two more roundings.
TEST_P(Rows, ActivationsEqualFloat64) {
  for (const Activation activation :
       {Activation::silu, Activation::gelu_erf, Activation::gelu_tanh, Activation::relu}) {
    SCOPED_TRACE("activation " + std::to_string(static_cast<int>(activation)));
    constexpr int64_t kCols = 2003;
    std::vector<float> gate(kCols), up(kCols), out(kCols, NAN);
    for (int64_t i = 0; i < kCols; ++i) {
      gate[i] = -12 + 24 * static_cast<float>(i) / static_cast<float>(kCols - 1);
      up[i] = 0.5f + static_cast<float>(i % 7);
    }
    gate[0] = -200;
    gate[1] = 200;
    ActivationParams params;
    params.activation = activation;
    params.gate = TensorView<const float>(gate.data(), 1, kCols);
    params.up = TensorView<const float>(up.data(), 1, kCols);
    params.out = TensorView<float>(out.data(), 1, kCols);
    activate(execution_, params);
    for (int64_t i = 0; i < kCols; ++i) {
      const double expected = reference_activation(activation, gate[i]) * up[i];
      ASSERT_NEAR(out[i], expected, 4e-7 * (std::fabs(gate[i]) + 1) * up[i]) << "x = " << gate[i];
    }
    params.gate = {};
    params.up = TensorView<const float>(gate.data(), 1, kCols);
    activate(execution_, params);
    for (int64_t i = 0; i < kCols; ++i) {
      ASSERT_NEAR(out[i], reference_activation(activation, gate[i]), 4e-7 * (std::fabs(gate[i]) + 1))
          << gate[i];
    }
  }
}

TEST_P(Rows, ARowHasTheSameBitsAloneAndInABatch) {
  Random random(24);
  constexpr int64_t kRows = 40, kCols = 160;
  const std::vector<float> in = random.normals(kRows * kCols);
  const std::vector<float> weight = random.normals(kCols);
  std::vector<float> batched(kRows * kCols), alone(kRows * kCols);
  NormParams params;
  params.epsilon = 1e-5f;
  params.in = TensorView<const float>(in.data(), kRows, kCols);
  params.weight = weight.data();
  params.out = TensorView<float>(batched.data(), kRows, kCols);
  norm(execution_, params);
  for (int64_t row = 0; row < kRows; ++row) {
    NormParams one = params;
    one.in = params.in.rows(row, 1);
    one.out = TensorView<float>(alone.data() + row * kCols, 1, kCols);
    norm(execution_, one);
  }
  EXPECT_EQ(std::memcmp(batched.data(), alone.data(), batched.size() * sizeof(float)), 0);
}

TEST(RowChecks, RefuseShapesThatDoNotAgree) {
  ThreadPool pool(1);
  const Execution execution(pool, Isa::plain);
  std::vector<float> values(64, 1.0f);
  std::vector<float> out(64);
  NormParams params;
  params.in = TensorView<const float>(values.data(), 2, 32);
  params.weight = values.data();
  EXPECT_THROW(norm(execution, params), Error) << "no output";
  params.out = TensorView<float>(out.data(), 1, 32);
  EXPECT_THROW(norm(execution, params), Error) << "one row of two";
  const int32_t outside = 2;
  params.input_rows = &outside;
  EXPECT_THROW(norm(execution, params), Error) << "a row that does not exist";
  AlignedBytes memory(64);
  EXPECT_THROW((void)make_quantized_rows(1, 33, memory.bytes()), Error);
  EXPECT_THROW((void)make_quantized_rows(4, 32, memory.bytes()), Error);
}

}  // namespace
}  // namespace autoglm::test
