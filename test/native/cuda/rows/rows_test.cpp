// Norm, embedding, angles and gathered rows against float64, on random shapes and every schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/rows/embedding.h"
#include "cuda/rows/norm.h"
#include "cuda/rows/rope_angles.h"
#include "emulated_launch.h"
#include "random_values.h"
#include "rows/expected_norm.h"

namespace autoglm::test {
namespace {

TEST(CudaNorm, AgreesWithFloat64OnRandomShapes) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(1000 + shape);
    // Lengths around the block's stride as well as any; no rows, one row, several.
    const int64_t edges[] = {1, 2, 3, 4, 255, 256, 257, 1020, 1024, 1028, 2048};
    const int64_t cols = random.below(2) == 0 ? edges[random.below(11)] : 1 + random.below(1500);
    const int64_t rows = random.below(5);
    const int64_t in_rows = rows + random.below(3) + 1;
    cuda::NormArgs args;
    args.kind = random.below(2) == 0 ? NormKind::rms : NormKind::layer;
    args.epsilon = 1e-5f;
    args.has_unit_offset = random.below(2) == 0;
    args.num_rows = static_cast<int32_t>(rows);
    args.num_cols = static_cast<int32_t>(cols);
    std::vector<float> in = random.normals(in_rows * cols, 3);
    for (float& each : in) each += 1;
    const std::vector<float> weight = random.normals(cols);
    const std::vector<float> bias = random.normals(cols);
    const std::vector<float> residual = random.normals(rows * cols);
    std::vector<int32_t> gathered;
    for (int64_t row = 0; row < rows; ++row) gathered.push_back(static_cast<int32_t>(random.below(in_rows)));
    const bool gathers = random.below(2) == 0;
    args.in = in.data();
    args.weight = weight.data();
    if (gathers) args.input_rows = gathered.data();
    if (args.kind == NormKind::layer && random.below(2) == 0) args.bias = bias.data();
    if (random.below(2) == 0) args.residual = residual.data();
    args.residual_scale = 0.5f;
    std::vector<float> out(rows * cols, NAN);
    std::vector<cuda::Bf16> rounded(rows * cols, cuda::Bf16{0xffff});
    const int64_t outputs = random.below(3);
    if (outputs != 1) args.out = out.data();
    if (outputs != 0) args.out_bf16 = rounded.data();

    launch(norm_launch(args), args, schedule_of(shape));

    std::vector<double> expected;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t from = gathers ? gathered[row] : row;
      const std::vector<double> y = normed(&in[from * cols], cols, args.kind, 1e-5);
      for (int64_t i = 0; i < cols; ++i) {
        const double gain = double{weight[i]} + (args.has_unit_offset ? 1 : 0);
        const double value = y[i] * gain + (args.bias != nullptr ? bias[i] : 0);
        expected.push_back(args.residual != nullptr ? residual[row * cols + i] + 0.5 * value : value);
      }
    }
    // One column alone: x - mean is 0 for a layer norm, and nothing is relative to it.
    const bool is_constant = cols == 1 && args.kind == NormKind::layer;
    if (args.out != nullptr && !is_constant) {
      EXPECT_LE(relative_distance(out, expected), kF32Tolerance);
    }
    if (args.out_bf16 != nullptr) {
      EXPECT_LE(relative_distance(to_floats(rounded), expected), kBf16Tolerance);
    }
  }
}

TEST(CudaEmbedding, AgreesWithFloat64OnRandomShapes) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(3000 + shape);
    const int64_t hidden = 2 * (1 + random.below(300));
    const int64_t rows = random.below(5);
    const int64_t vocab = 1 + random.below(20);
    const std::vector<cuda::Bf16> tables[3] = {to_bf16s(random.normals(vocab * hidden)),
                                               to_bf16s(random.normals(vocab * hidden)),
                                               to_bf16s(random.normals(vocab * hidden))};
    const bool has_halves = shape % 2 != 0;
    std::vector<uint16_t> halves;
    for (const cuda::Bf16 each : tables[0]) halves.push_back(float_to_half(1.001f * to_float(each)));
    std::vector<int32_t> ids[3];
    for (std::vector<int32_t>& each : ids) {
      for (int64_t row = 0; row < rows; ++row) each.push_back(static_cast<int32_t>(random.below(vocab)));
    }
    std::vector<float> out(rows * hidden, NAN);
    cuda::EmbeddingArgs args;
    args.table = tables[0].data();
    if (has_halves) args.table = halves.data();
    if (has_halves) args.layout = cuda::DeviceLayout::f16;
    args.ids = ids[0].data();
    if (random.below(2) == 0) args.positions = tables[1].data();
    args.position_ids = ids[1].data();
    if (random.below(2) == 0) args.types = tables[2].data();
    args.type_ids = ids[2].data();
    args.out = out.data();
    args.num_rows = static_cast<int32_t>(rows);
    args.hidden = static_cast<int32_t>(hidden);
    args.scale = 3;
    launch(embedding_launch(args), args, schedule_of(shape));
    std::vector<double> expected;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < hidden; ++i) {
        const int64_t at = ids[0][row] * hidden + i;
        double value = 3 * double{has_halves ? half_to_float(halves[at]) : to_float(tables[0][at])};
        if (args.positions != nullptr) value += to_float(tables[1][ids[1][row] * hidden + i]);
        if (args.types != nullptr) value += to_float(tables[2][ids[2][row] * hidden + i]);
        expected.push_back(value);
      }
    }
    EXPECT_LE(relative_distance(out, expected), kF32Tolerance);
  }
}

TEST(CudaRopeAngles, AgreeWithFloat64AtAnyPosition) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(3500 + shape);
    const int64_t positions_below[] = {2, 5000, 1 << 20, int64_t{1} << 31};
    const int64_t rows = random.below(7);
    const int64_t pairs = 1 + random.below(130);
    const int64_t num_tables = 1 + random.below(3);
    std::vector<int32_t> positions;
    std::vector<int32_t> tables;
    for (int64_t row = 0; row < rows; ++row) {
      positions.push_back(static_cast<int32_t>(random.below(positions_below[random.below(4)])));
      tables.push_back(static_cast<int32_t>(random.below(num_tables)));
    }
    std::vector<double> frequencies;
    std::vector<float> factors;
    for (int64_t i = 0; i < num_tables * pairs; ++i) {
      frequencies.push_back(std::pow(1e4, -static_cast<double>(random.below(1000)) / 1000));
    }
    for (int64_t i = 0; i < num_tables; ++i) factors.push_back(random.uniform(0.5f, 1.5f));
    const bool has_tables = random.below(2) == 0;
    std::vector<float> out(rows * pairs * 2, NAN);
    cuda::RopeAnglesArgs args;
    args.positions = positions.data();
    if (has_tables) args.tables = tables.data();
    args.frequencies = frequencies.data();
    args.attention_factors = factors.data();
    args.cos_sin = out.data();
    args.num_rows = static_cast<int32_t>(rows);
    args.num_pairs = static_cast<int32_t>(pairs);
    launch(rope_angles_launch(args), args, schedule_of(shape));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t table = has_tables ? tables[row] : 0;
      for (int64_t i = 0; i < pairs; ++i) {
        // Rounded as on the CPU: ops/kv_append.cpp.
        const double angle = positions[row] * frequencies[table * pairs + i];
        EXPECT_NEAR(out[row * pairs * 2 + i], factors[table] * std::cos(angle), 1e-7);
        EXPECT_NEAR(out[row * pairs * 2 + pairs + i], factors[table] * std::sin(angle), 1e-7);
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::test
