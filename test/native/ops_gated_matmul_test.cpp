// The fused half of an MLP against its three operations one after the other: the same bits.
#include "ops/gated_matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "back_ends.h"
#include "base/error.h"
#include "ops/activation.h"
#include "ops/matmul.h"
#include "ops/quantize_rows.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

struct Case {
  StoredFormat format;
  Precision precision;
  int64_t n, k, num_rows;
  bool has_gate, has_bias, writes_floats, writes_int8;
};

// Int8 rows with the memory behind them; absent unless asked for.
struct Int8Rows {
  Int8Rows(int64_t num_rows, int64_t num_cols, bool is_present)
      : memory(is_present ? quantized_rows_bytes(num_rows, num_cols) : 64) {
    if (is_present) rows = make_quantized_rows(num_rows, num_cols, memory.bytes());
  }
  AlignedBytes memory;
  QuantizedRows rows;
};

struct Outputs {
  explicit Outputs(const Case& c) : values(c.num_rows * c.n, NAN), quantized(c.num_rows, c.n, c.writes_int8) {
    std::ranges::fill(quantized.memory.bytes(), std::byte{0});
    if (c.writes_floats) view = {values.data(), c.num_rows, c.n};
  }
  std::vector<float> values;
  Int8Rows quantized;
  TensorView<float> view;
};

class Mlp {
 public:
  Mlp(Random& random, const Case& c)
      : case_(c),
        gate_(random_weights(random, c.format, c.precision, c.n, c.k)),
        up_(random_weights(random, c.format, c.precision, c.n, c.k)),
        in_(random.normals(c.num_rows * c.k)),
        gate_bias_(random.normals(c.n)),
        up_bias_(random.normals(c.n)),
        int8_in_(c.num_rows, c.k, up_.matrix.takes_int8()) {}

  void quantize(const Execution& execution) {
    if (int8_in_.rows.is_present()) quantize_rows(execution, in(), int8_in_.rows);
  }

  void run_fused(const Execution& execution, Outputs& out) const {
    GatedMatmulParams params{.gate = case_.has_gate ? gate_.matrix : PackedMatrix(),
                             .up = up_.matrix,
                             .gate_bias = case_.has_bias ? gate_bias_.data() : nullptr,
                             .up_bias = case_.has_bias ? up_bias_.data() : nullptr,
                             .in = in(),
                             .quantized_in = int8_in_.rows,
                             .activation = Activation::silu,
                             .out = out.view,
                             .quantized = out.quantized.rows};
    gated_matmul(execution, params);
  }

  void run_apart(const Execution& execution, Outputs& out) const {
    std::vector<float> gate(case_.num_rows * case_.n), up(gate.size());
    multiply(execution, gate_.matrix, gate_bias_, gate);
    multiply(execution, up_.matrix, up_bias_, up);
    ActivationParams params{.gate = {},
                            .up = {up.data(), case_.num_rows, case_.n},
                            .out = out.view,
                            .quantized = out.quantized.rows};
    if (case_.has_gate) params.gate = {gate.data(), case_.num_rows, case_.n};
    activate(execution, params);
  }

 private:
  TensorView<const float> in() const { return {in_.data(), case_.num_rows, case_.k}; }

  void multiply(const Execution& execution, const PackedMatrix& weights, const std::vector<float>& bias,
                std::vector<float>& out) const {
    matmul(execution, {.weights = weights,
                       .in = in(),
                       .quantized = int8_in_.rows,
                       .bias = case_.has_bias ? bias.data() : nullptr,
                       .residual = {},
                       .out = {out.data(), case_.num_rows, case_.n}});
  }

  Case case_;
  PackedWeights gate_, up_;
  std::vector<float> in_, gate_bias_, up_bias_;
  Int8Rows int8_in_;
};

class GatedMatmul : public testing::TestWithParam<BackEnd> {};

INSTANTIATE_TEST_SUITE_P(Isa, GatedMatmul, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

// Goal: fusing changes no bit, whatever the shape, the chunks and the threads.
// Method: rows of one chunk (replayable) and of several, full and ragged panels, every kind of output.
TEST_P(GatedMatmul, HasTheBitsOfItsOperations) {
  ThreadPool one_thread(1), three_threads(3);
  Random random(21);
  for (const int64_t num_rows : {1, 2, 5, 33, 64, 65, 130}) {
    for (const StoredFormat format : {StoredFormat::q4_1, StoredFormat::q8_0, StoredFormat::bf16}) {
      const bool has_gate = random.below(3) > 0;
      const bool is_ragged = num_rows % 2 == 1;
      const Case c{.format = format,
                   .precision = random.below(4) > 0 ? Precision::fast : Precision::exact,
                   .n = is_ragged ? 75 : 96 + 32 * random.below(4),
                   .k = 64,
                   .num_rows = num_rows,
                   .has_gate = has_gate,
                   .has_bias = random.below(2) == 0,
                   .writes_floats = is_ragged || random.below(2) == 0,
                   .writes_int8 = !is_ragged};
      SCOPED_TRACE(std::string(info_of(format).name) + ", rows " + std::to_string(num_rows));
      Mlp mlp(random, c);
      const Execution alone(one_thread, *GetParam().kernels);
      mlp.quantize(alone);
      Outputs expected(c);
      mlp.run_apart(alone, expected);
      for (ThreadPool* pool : {&one_thread, &three_threads}) {
        Outputs found(c);
        mlp.run_fused(Execution(*pool, *GetParam().kernels), found);
        ASSERT_EQ(
            std::memcmp(found.values.data(), expected.values.data(), found.values.size() * sizeof(float)), 0);
        ASSERT_TRUE(std::ranges::equal(found.quantized.memory.bytes(), expected.quantized.memory.bytes()));
      }
    }
  }
}

TEST_P(GatedMatmul, RefusesGatesThatDoNotFit) {
  ThreadPool pool(1);
  const Execution execution(pool, *GetParam().kernels);
  Random random(22);
  const PackedWeights up = random_weights(random, StoredFormat::f32, Precision::fast, 32, 64);
  const PackedWeights narrow = random_weights(random, StoredFormat::f32, Precision::fast, 31, 64);
  const PackedWeights int8 = random_weights(random, StoredFormat::q8_0, Precision::fast, 32, 64);
  const std::vector<float> in = random.normals(64);
  std::vector<float> out(32);
  GatedMatmulParams params{.gate = {},
                           .up = up.matrix,
                           .in = {in.data(), 1, 64},
                           .quantized_in = {},
                           .out = {out.data(), 1, 32},
                           .quantized = {}};
  EXPECT_NO_THROW(gated_matmul(execution, params));
  params.gate = narrow.matrix;
  EXPECT_THROW(gated_matmul(execution, params), Error);
  params.gate = int8.matrix;
  EXPECT_THROW(gated_matmul(execution, params), Error);
}

}  // namespace
}  // namespace autoglm::test
