// What autotuning chooses among never shows in a result: every cut of the work against the untuned one.
#include "base/step_cut.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "back_ends.h"
#include "ops/gated_matmul.h"
#include "ops/grouped_matmul.h"
#include "ops/matmul.h"
#include "ops/matmul_chunks.h"
#include "ops/quantize_rows.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

constexpr int kPoolThreads = 3;
constexpr int64_t kOutputs = 1000;  // 32 panels, the last one ragged
constexpr int64_t kInputs = 64;

std::vector<StepCut> cuts() {
  std::vector<StepCut> result;
  for (const int num_threads : {0, 1, 2, kPoolThreads + 1}) {
    for (const int64_t chunk_percent : {1, 50, 100, 200, 400, 10'000}) {
      result.push_back({.num_threads = num_threads, .chunk_percent = chunk_percent});
    }
  }
  return result;
}

class StepCutTest : public testing::TestWithParam<BackEnd> {};

INSTANTIATE_TEST_SUITE_P(Isa, StepCutTest, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

// Goal: no choice changes a bit. Method: rows of one chunk (replayable) and of several; products alone, gated
// and grouped, computed with every cut on a pool that uses as many threads as the cut says.
TEST_P(StepCutTest, ChangesNoBitOfAProduct) {
  ThreadPool one_thread(1), pool(kPoolThreads);
  Random random(31);
  for (const int64_t num_rows : {1, 6, 70}) {
    const PackedWeights gate = random_weights(random, StoredFormat::q4_1, Precision::fast, kOutputs, kInputs);
    const PackedWeights up = random_weights(random, StoredFormat::q4_1, Precision::fast, kOutputs, kInputs);
    const std::vector<float> in = random.normals(num_rows * kInputs);
    AlignedBytes memory(quantized_rows_bytes(num_rows, kInputs));
    const QuantizedRows quantized = make_quantized_rows(num_rows, kInputs, memory.bytes());
    quantize_rows(Execution(one_thread, *GetParam().kernels), {in.data(), num_rows, kInputs}, quantized);
    const auto run = [&](const Execution& execution) {
      std::vector<float> out(4 * num_rows * kOutputs, NAN);
      const auto part = [&](int64_t index) {
        return TensorView<float>(out.data() + index * num_rows * kOutputs, num_rows, kOutputs);
      };
      const auto product = [&](const PackedWeights& weights, int64_t index) {
        return MatmulParams{
            .weights = weights.matrix, .in = {}, .quantized = quantized, .residual = {}, .out = part(index)};
      };
      matmul(execution, product(up, 0));
      gated_matmul(execution, {.gate = gate.matrix,
                               .up = up.matrix,
                               .in = {},
                               .quantized_in = quantized,
                               .activation = Activation::silu,
                               .out = part(1),
                               .quantized = {}});
      const std::vector<MatmulParams> group = {product(gate, 2), product(up, 3)};
      grouped_matmul(execution, group);
      return out;
    };
    const std::vector<float> expected = run(Execution(one_thread, *GetParam().kernels));
    for (const StepCut& cut : cuts()) {
      const Execution execution = Execution(pool, *GetParam().kernels).with(cut);
      pool.use_threads(execution.num_threads());
      const std::vector<float> found = run(execution);
      ASSERT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0)
          << num_rows << " rows, " << cut.num_threads << " threads, " << cut.chunk_percent << " %";
    }
  }
}

TEST(StepCut, ScalesTheWorkOfAChunk) {
  ThreadPool pool(2);
  const Execution execution(pool, choose_isa(probe_cpu(), ""));
  const auto num_chunks = [&](const StepCut& cut) {
    return PanelCut(execution.with(cut), 640, 1, 1024).num_panel_chunks();
  };
  EXPECT_EQ(num_chunks({}), 26);  // 800,000 products are 25 panels
  EXPECT_EQ(num_chunks({.chunk_percent = 50}), 50);
  EXPECT_EQ(num_chunks({.chunk_percent = 200}), 14);
  EXPECT_EQ(num_chunks({.chunk_percent = 10'000}), 1);
  EXPECT_EQ(execution.with({.num_threads = 1}).num_threads(), 1);
  EXPECT_EQ(execution.with({.num_threads = 9}).num_threads(), 2) << "more than the pool has";
}

}  // namespace
}  // namespace autoglm::test
