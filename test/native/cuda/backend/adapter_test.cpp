// Low-rank adapters on a GPU, beside the CPU: all products, two adapters and rows without one in a step.
#include <gtest/gtest.h>

#include "random_adapter.h"
#include "step_runner.h"

namespace autoglm::test {
namespace {

class GpuAdapters : public testing::Test {
 protected:
  DecoderSpec spec_ = small_spec();
  RandomModel model_{spec_, StoredFormat::bf16};
  RandomAdapter first_{spec_, 5, 21};  // a rank that has to be filled up
  RandomAdapter second_{spec_, 16, 22};
};

// Three requests side by side, of which the answers are logits of all positions.
std::vector<std::vector<float>> run_three(StepRunner& runner, int64_t chunk) {
  std::vector<std::vector<float>> outputs;
  constexpr int64_t kCount = 27;  // in pieces of 13 the last is a single token
  for (int32_t row = 0; row < 3; ++row) {
    Request request{.kind = RequestKind::logits, .tokens = random_tokens(kCount, 96, 7), .adapter = row};
    for (int32_t i = 0; i < kCount; ++i) request.positions.push_back(i);
    runner.admit(row, request);
    outputs.emplace_back(static_cast<size_t>(kCount * 96));
  }
  for (int32_t row = 0; row < 3; ++row) runner.model().set_output(row + 1, outputs[static_cast<size_t>(row)]);
  for (int64_t start = 0; start < kCount; start += chunk) {
    for (int32_t row = 0; row < 3; ++row) runner.compute(row, start, std::min(chunk, kCount - start), false);
    EXPECT_EQ(runner.run(), 0);
  }
  return outputs;
}

class GpuAdaptersOfLayers : public GpuAdapters, public testing::WithParamInterface<int32_t> {};
INSTANTIATE_TEST_SUITE_P(From, GpuAdaptersOfLayers, testing::Values(0, 1));

// Layers before the parameter are the processor's.
TEST_P(GpuAdaptersOfLayers, AddWhatTheyAddOnTheCpu) {
  StepRunner cpu(model_, Place::cpu);
  StepRunner gpu(gpu_request(model_, GetParam()));
  for (StepRunner* runner : {&cpu, &gpu}) {
    runner->model().add_adapter(1, first_.read());
    runner->model().add_adapter(2, second_.read());
  }
  const std::vector<std::vector<float>> expected = run_three(cpu, 27);
  EXPECT_GT(worst_row(expected[1], expected[0], 96), 0.2);  // it is no small change
  for (const int64_t chunk : {int64_t{27}, int64_t{13}}) {
    const std::vector<std::vector<float>> found = run_three(gpu, chunk);
    for (size_t row = 0; row < 3; ++row)
      EXPECT_LE(worst_row(found[row], expected[row], 96), kLogitTolerance) << "adapter " << row;
  }
}

TEST_F(GpuAdapters, CanBeReplacedUnderTheirNumber) {
  StepRunner gpu(model_, Place::gpu);
  gpu.model().add_adapter(1, first_.read());
  gpu.model().add_adapter(2, second_.read());
  const std::vector<std::vector<float>> before = run_three(gpu, 27);
  gpu.model().remove_adapter(1);
  gpu.model().remove_adapter(2);
  gpu.model().add_adapter(1, second_.read());
  gpu.model().add_adapter(2, first_.read());
  const std::vector<std::vector<float>> after = run_three(gpu, 27);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(after[1], before[2]);
  EXPECT_EQ(after[2], before[1]);
}

}  // namespace
}  // namespace autoglm::test
