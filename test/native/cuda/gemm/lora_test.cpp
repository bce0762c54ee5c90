// Low-rank additions and the separate activation against float64, on random ragged steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "cuda/device_matrix.h"
#include "cuda/gemm/activate.h"
#include "cuda/gemm/lora.h"
#include "product_fixture.h"

namespace autoglm::test {
namespace {

struct LoraCase {
  std::vector<std::vector<cuda::Bf16>> matrices;  // what adapters and parts point to
  std::vector<cuda::LoraAdapter> adapters;
  std::vector<cuda::LoraPart> parts;
  std::vector<cuda::LoraRun> runs;
  std::vector<cuda::LoraRun> pieces;
  std::vector<cuda::Bf16> in;
  std::vector<float> low;
  std::vector<float> before;
  std::vector<float> out;
  cuda::LoraArgs args;
  int64_t num_rows = 0;
};

const cuda::Bf16* add_matrix(LoraCase& test, Random& random, int64_t count) {
  test.matrices.push_back(to_bf16s(random.normals(count, 0.3f)));
  return test.matrices.back().data();
}

// Parts on any ranges of columns, also the same ones twice; adapters without parts.
void add_adapter(LoraCase& test, Random& random) {
  cuda::LoraAdapter adapter;
  adapter.first_part = static_cast<int32_t>(test.parts.size());
  adapter.num_parts = static_cast<int32_t>(random.below(4));
  for (int32_t i = 0; i < adapter.num_parts; ++i) {
    cuda::LoraPart part;
    part.rank = static_cast<int32_t>(8 * (1 + random.below(3)));
    part.first_col = static_cast<int32_t>(random.below(test.args.num_cols));
    part.num_cols = static_cast<int32_t>(1 + random.below(test.args.num_cols - part.first_col));
    part.first_low = adapter.rank;
    part.scale = random.uniform(0.5f, 2);
    part.b = add_matrix(test, random, int64_t{part.num_cols} * part.rank);
    adapter.rank += part.rank;
    test.parts.push_back(part);
  }
  adapter.a = add_matrix(test, random, int64_t{adapter.rank} * test.args.k);
  test.args.max_rank = std::max(test.args.max_rank, adapter.rank);
  test.adapters.push_back(adapter);
}

LoraCase make_lora_case(Random& random) {
  LoraCase test;
  cuda::LoraArgs& args = test.args;
  args.k = static_cast<int32_t>(8 * (1 + random.below(random.below(4) == 0 ? 200 : 30)));
  const bool is_gated = random.below(3) == 0;
  args.num_cols = static_cast<int32_t>(is_gated ? 16 * (1 + random.below(12)) : 1 + random.below(200));
  args.gated_cols = is_gated ? args.num_cols / 2 : 0;
  args.scale = 0.7f;
  const int64_t num_adapters = 1 + random.below(3);
  for (int64_t i = 0; i < num_adapters; ++i) add_adapter(test, random);
  const int64_t num_runs = random.below(4);
  for (int64_t i = 0; i < num_runs; ++i) {
    test.num_rows += random.below(3);  // rows without an adapter
    const auto count = static_cast<int32_t>(random.below(4) == 0 ? random.below(40) : random.below(5));
    const auto adapter = static_cast<int32_t>(random.below(num_adapters));
    test.runs.push_back({static_cast<int32_t>(test.num_rows), count, adapter});
    test.num_rows += count;
  }
  test.num_rows += random.below(2);
  args.in_stride = args.k + 8 * random.below(2);
  args.out_stride = args.num_cols + random.below(3);
  test.in = padded_rows(random, test.num_rows, args.k, args.in_stride);
  test.before = random.normals(test.num_rows * args.out_stride, 3);
  test.out = test.before;
  test.low.assign(test.num_rows * args.max_rank, NAN);
  test.pieces = cuda::cut_lora_runs(test.runs);
  args.adapters = test.adapters.data();
  args.parts = test.parts.data();
  args.runs = test.pieces.data();
  args.num_runs = static_cast<int32_t>(test.pieces.size());
  args.in = test.in.data();
  args.low = test.low.data();
  args.out = test.out.data();
  return test;
}

void add_expected(const LoraCase& test, const cuda::LoraAdapter& adapter, const cuda::LoraPart& part,
                  int64_t row, std::vector<double>& out) {
  const cuda::LoraArgs& args = test.args;
  for (int64_t col = 0; col < part.num_cols; ++col) {
    double sum = 0;
    for (int64_t j = 0; j < part.rank; ++j) {
      double low = 0;
      for (int64_t i = 0; i < args.k; ++i) {
        low += double{to_float(adapter.a[(part.first_low + j) * args.k + i])} *
               double{to_float(test.in[row * args.in_stride + i])};
      }
      sum += low * double{to_float(part.b[col * part.rank + j])};
    }
    const int64_t logical = part.first_col + col;
    const bool is_up = args.gated_cols > 0 && logical >= args.gated_cols;
    const int64_t to =
        args.gated_cols == 0 ? logical : cuda::gated_row(logical - (is_up ? args.gated_cols : 0), is_up);
    out[row * args.out_stride + to] += double{args.scale} * double{part.scale} * sum;
  }
}

TEST(CudaLora, AgreesWithFloat64OnRandomSteps) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    Random random(7000 + i);
    LoraCase test = make_lora_case(random);
    std::vector<double> expected(test.before.begin(), test.before.end());
    for (const cuda::LoraRun& run : test.runs) {
      const cuda::LoraAdapter& adapter = test.adapters[run.adapter];
      for (int64_t row = run.first_row; row < run.first_row + run.num_rows; ++row) {
        for (int32_t part = 0; part < adapter.num_parts; ++part) {
          add_expected(test, adapter, test.parts[adapter.first_part + part], row, expected);
        }
      }
    }
    launch(lora_shrink_launch(test.args), test.args, schedule_of(i));
    launch(lora_expand_launch(test.args), test.args, schedule_of(i + 1));
    EXPECT_LE(relative_distance(test.out, expected), kF32Tolerance);
  }
}

// Goal: a row's bits depend on its own adapter alone. Method: one run of 21 rows, and its last row by itself.
TEST(CudaLora, ARowHasTheSameBitsInEveryRun) {
  Random random(7999);
  LoraCase test;
  test.args.k = 72;
  test.args.num_cols = 50;
  while (test.args.max_rank == 0) add_adapter(test, random);
  test.num_rows = 21;
  test.args.in_stride = 72;
  test.args.out_stride = 50;
  test.in = padded_rows(random, 21, 72, 72);
  test.before = random.normals(21 * 50);
  std::vector<float> outs[2];
  const auto adapter = static_cast<int32_t>(test.adapters.size()) - 1;
  const cuda::LoraRun runs[2] = {{0, 21, adapter}, {20, 1, adapter}};
  for (int i = 0; i < 2; ++i) {
    outs[i] = test.before;
    test.low.assign(21 * test.args.max_rank, NAN);
    test.pieces = cuda::cut_lora_runs({&runs[i], 1});
    test.args.adapters = test.adapters.data();
    test.args.parts = test.parts.data();
    test.args.runs = test.pieces.data();
    test.args.num_runs = static_cast<int32_t>(test.pieces.size());
    test.args.in = test.in.data();
    test.args.low = test.low.data();
    test.args.out = outs[i].data();
    launch(lora_shrink_launch(test.args), test.args, schedule_of(i));
    launch(lora_expand_launch(test.args), test.args, schedule_of(i));
  }
  EXPECT_EQ(std::memcmp(&outs[0][20 * 50], &outs[1][20 * 50], 50 * sizeof(float)), 0);
  EXPECT_NE(std::memcmp(&outs[0][20 * 50], &test.before[20 * 50], 50 * sizeof(float)), 0);
}

TEST(CudaActivate, AgreesWithFloat64OnRandomShapes) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(8000 + i);
    cuda::ActivateArgs args;
    args.is_gated = random.below(2) == 0;
    args.activation = static_cast<Activation>(random.below(4));
    args.num_rows = static_cast<int32_t>(random.below(4));
    args.num_cols = static_cast<int32_t>(args.is_gated ? 8 * (1 + random.below(40)) : 1 + random.below(600));
    const int64_t in_cols = args.num_cols * (args.is_gated ? 2 : 1);
    args.in_stride = in_cols + random.below(3);
    args.out_stride = args.num_cols + random.below(3);
    const std::vector<float> in = random.normals(args.num_rows * args.in_stride, 2);
    std::vector<cuda::Bf16> out(args.num_rows * args.out_stride, cuda::Bf16{0xffff});
    args.in = in.data();
    args.out = out.data();
    launch(activate_launch(args), args, schedule_of(i));
    std::vector<double> expected;
    std::vector<float> found;
    for (int64_t row = 0; row < args.num_rows; ++row) {
      for (int64_t col = 0; col < args.num_cols; ++col) {
        const float* from = &in[row * args.in_stride];
        const double gate = from[args.is_gated ? cuda::gated_row(col, false) : col];
        const double up = args.is_gated ? from[cuda::gated_row(col, true)] : 1;
        expected.push_back(expected_activation(args.activation, gate) * up);
        found.push_back(to_float(out[row * args.out_stride + col]));
      }
    }
    EXPECT_LE(relative_distance(found, expected), kBf16Tolerance);
  }
}

}  // namespace
}  // namespace autoglm::test
