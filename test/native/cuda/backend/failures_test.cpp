// What goes wrong with a GPU, and what then is left: typed errors, other steps, no memory.
#include <gtest/gtest.h>

#include <initializer_list>

#include "base/error.h"
#include "fake_driver_controls.h"
#include "step_runner.h"

namespace autoglm::test {
namespace {

constexpr int kOutOfMemory = 2;  // CUDA_ERROR_OUT_OF_MEMORY

int32_t code_of(ErrorCode code) { return static_cast<int32_t>(code) + 1; }

std::string failure_of(const LoadRequest& request, ErrorCode expected) {
  try {
    StepRunner runner(request);
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code), name_of(expected)) << error.what();
    return error.what();
  }
  return "the load did not fail";
}

void expect_parts(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << text << ": " << part;
}

class GpuFailures : public testing::Test {
 protected:
  FakeDriver driver_;
  RandomModel model_{small_spec(), StoredFormat::bf16};
};

TEST_F(GpuFailures, LeaveNothingBehindWhenAModelIsFreed) {
  {
    StepRunner gpu(model_, Place::gpu);
    EXPECT_EQ(gpu.generate({.tokens = {1, 2, 3}}, 4).size(), 4U);
    EXPECT_GT(driver_.count("allocations"), 0);
    EXPECT_EQ(driver_.count("graph_execs"), 1);
  }
  EXPECT_EQ(driver_.count("objects"), 0);
  EXPECT_EQ(driver_.count("allocated_bytes"), 0);
}

TEST_F(GpuFailures, ReplayOneGraphForBatchesOfOneSize) {
  StepRunner gpu(model_, Place::gpu);
  gpu.generate({.tokens = {1, 2, 3}}, 12);
  EXPECT_EQ(driver_.count("graph_execs"), 1);
}

// Goal: no graph is replayed with addresses that a larger step has given up. Method: a sequence whose keys
// are split decodes alone, then beside another one, which takes more room for partial results, then alone
// again.
TEST_F(GpuFailures, ForgetGraphsWhoseMemoryHasMoved) {
  StepRunner gpu(model_, Place::gpu);
  constexpr int32_t kPrompt = 257;  // more than one split
  for (const int32_t row : {0, 1}) {
    gpu.admit(row, {.tokens = random_tokens(kPrompt, 96, 31)});
    gpu.compute(row, 0, 200, false);
    ASSERT_EQ(gpu.run(), 0);
    gpu.compute(row, 200, kPrompt - 200, true);
    ASSERT_EQ(gpu.run(), 0);
  }
  std::vector<int32_t> num_graphs;
  for (const bool is_alone : {true, false, true}) {
    if (is_alone) gpu.compute(0, kPrompt, 1, false);
    if (!is_alone) {
      for (const int32_t row : {0, 1}) gpu.compute(row, kPrompt, 1, false);
    }
    ASSERT_EQ(gpu.run(), 0);
    num_graphs.push_back(static_cast<int32_t>(driver_.count("graph_execs")));
  }
  EXPECT_EQ(num_graphs, (std::vector<int32_t>{1, 1, 2}));
}

TEST_F(GpuFailures, NameWhatNoKernelExecutes) {
  LoadRequest request = gpu_request(model_, 0);
  request.is_exact = true;
  EXPECT_NE(failure_of(request, ErrorCode::unsupported_model).find("'exact'"), std::string::npos);
  request = gpu_request(model_, 0);
  request.kv_dtype = KvDtype::f32;
  EXPECT_NE(failure_of(request, ErrorCode::unsupported_model).find("f32"), std::string::npos);
  request = gpu_request(model_, 0);
  request.spec.layers[0].attention.head_dim = request.spec.layers[0].attention.value_dim = 24;
  EXPECT_NE(failure_of(request, ErrorCode::unsupported_model).find("24 dims"), std::string::npos);
  request.kv_dtype = KvDtype::fp8;
  EXPECT_NE(failure_of(request, ErrorCode::unsupported_model).find("24 dims in fp8 pages"),
            std::string::npos);
  request = gpu_request(model_, 0);
  request.spec.layers[1].mlp.intermediate_size = 97;
  EXPECT_NE(failure_of(request, ErrorCode::unsupported_model).find("97"), std::string::npos);
}

TEST_F(GpuFailures, NameWhereKeysAndValuesCannotBeFp8) {
  LoadRequest request = model_.request();
  request.kv_dtype = KvDtype::fp8;
  EXPECT_NE(failure_of(request, ErrorCode::invalid_parameter).find("bf16, int8 or f32 on the processor"),
            std::string::npos);
  request = gpu_request(model_, 1);  // the first layer's pages are the processor's
  request.kv_dtype = KvDtype::fp8;
  EXPECT_NE(failure_of(request, ErrorCode::invalid_parameter).find("bf16, int8 or f32 on the processor"),
            std::string::npos);
  request = gpu_request(model_, 0);
  request.kv_dtype = KvDtype::fp8;
  AttentionSpec& attention = request.spec.layers[1].attention;
  attention.num_kv_heads = 1;
  attention.head_dim = 64;
  attention.value_dim = 48;
  attention.latent = LatentSpec{.query_rank = std::nullopt,
                                .rank = 48,
                                .nope_dim = 24,
                                .rope_dim = 16,
                                .output_dim = 16,
                                .norm = {.kind = NormKind::rms, .epsilon = 1e-6F}};
  EXPECT_NE(
      failure_of(request, ErrorCode::invalid_parameter).find("layers.1: expected kvDtype bf16 for a latent"),
      std::string::npos);
}

TEST_F(GpuFailures, SayWhyADeviceCannotBeUsed) {
  LoadRequest request = gpu_request(model_, 0);
  request.device->stages[0].device_idx = 7;
  failure_of(request, ErrorCode::invalid_parameter);
  request.device->library = "libno-such-driver.so";
  failure_of(request, ErrorCode::invalid_parameter);
}

// Layers before the parameter are the processor's.
class GpuFailuresOfLayers : public GpuFailures, public testing::WithParamInterface<int32_t> {};
INSTANTIATE_TEST_SUITE_P(From, GpuFailuresOfLayers, testing::Values(0, 1));

// Goal: a load that runs out of the device's memory anywhere says so and leaves nothing behind. Method: the
// first, second, third... allocation fails until a load gets by.
TEST_P(GpuFailuresOfLayers, EndALoadWhereverTheDevicesMemoryRunsOut) {
  int64_t nth = 1;
  for (;; ++nth) {
    ASSERT_LT(nth, 100);
    driver_.fail("cuMemAlloc_v2", nth, kOutOfMemory);
    std::string text;
    try {
      StepRunner runner(gpu_request(model_, GetParam()));
      break;
    } catch (const Error& error) {
      EXPECT_EQ(name_of(error.code), name_of(ErrorCode::out_of_memory)) << error.what();
    }
    EXPECT_EQ(driver_.count("allocated_bytes"), 0) << "allocation " << nth;
    EXPECT_EQ(driver_.count("objects"), 0) << "allocation " << nth;
  }
  EXPECT_GT(nth, 4);
}

TEST_F(GpuFailures, EndOneStepThatRunsOutOfMemory) {
  StepRunner gpu(model_, Place::gpu);
  driver_.fail("cuMemAlloc_v2", 1, kOutOfMemory);  // what the attention of the first step splits
  gpu.admit(0, {.tokens = {1, 2, 3}});
  gpu.compute(0, 0, 3, true);
  EXPECT_EQ(gpu.run(), code_of(ErrorCode::out_of_memory));
  expect_parts(gpu.model().step_failure(0), {"cuMemAlloc_v2", "CUDA_ERROR_OUT_OF_MEMORY", "bytes"});
  EXPECT_EQ(gpu.generate({.tokens = {1, 2, 3}}, 2).size(), 2U);
}

TEST_P(GpuFailuresOfLayers, PoisonTheModelOnceTheDeviceIsLost) {
  const std::vector<int32_t> expected =
      StepRunner(gpu_request(model_, GetParam())).generate({.tokens = {1, 2, 3}}, 2);
  {
    StepRunner gpu(gpu_request(model_, GetParam()));
    StepRunner other(gpu_request(model_, GetParam()));
    driver_.set("launch_failure_at", 5);
    for (int step = 0; step < 2; ++step) {
      gpu.admit(0, {.tokens = {1, 2, 3}});
      gpu.compute(0, 0, 3, true);
      EXPECT_EQ(gpu.run(), code_of(ErrorCode::device_lost));
      expect_parts(gpu.model().step_failure(0), {"cu", "CUDA_ERROR_LAUNCH_FAILED", "on GPU 0"});
    }
    other.admit(0, {.tokens = {1, 2, 3}});
    other.compute(0, 0, 3, true);
    EXPECT_EQ(other.run(), code_of(ErrorCode::device_lost));
    EXPECT_EQ(other.model().step_failure(0), gpu.model().step_failure(0));  // the first one's text
  }
  StepRunner again(gpu_request(model_, GetParam()));
  EXPECT_EQ(again.generate({.tokens = {1, 2, 3}}, 2), expected);
}

TEST_F(GpuFailures, StopALoadDuringTheUpload) {
  int32_t cancel = 1;
  LoadRequest request = gpu_request(model_, 0);
  request.cancel = &cancel;
  EXPECT_THROW(load(std::move(request)), Error);
  EXPECT_EQ(driver_.count("allocated_bytes"), 0);
}

// What a SaveJob then finds, and refuses.
TEST_F(GpuFailures, LeaveNoPackedWeightsInTheHostsMemory) {
  StepRunner gpu(model_, Place::gpu);
  EXPECT_EQ(gpu.model().weights().arena.size(), 0);
  EXPECT_EQ(gpu.generate({.tokens = {1, 2, 3}}, 2).size(), 2U);
}

}  // namespace
}  // namespace autoglm::test
