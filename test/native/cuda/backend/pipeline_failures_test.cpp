// What goes wrong with one of several devices, and what then is left.
#include <gtest/gtest.h>

#include "base/error.h"
#include "equal_logits.h"
#include "pipeline_fixture.h"

namespace autoglm::test {
namespace {

constexpr int kOutOfMemory = 2;  // CUDA_ERROR_OUT_OF_MEMORY
constexpr int32_t kNumDevices = 3;

int32_t code_of(ErrorCode code) { return static_cast<int32_t>(code) + 1; }

// The parameter: the device that fails, of three.
class GpuPipelineFailures : public PipelineTest, public testing::WithParamInterface<int32_t> {
 protected:
  std::string place() const { return "on GPU " + std::to_string(GetParam()); }
  LoadRequest request() const { return pipeline_request(model_, {0, 1, 2}); }
  LoadRequest request_on(int32_t device_idx) const {
    LoadRequest request = gpu_request(model_, 0);
    request.device->stages[0].device_idx = device_idx;
    return request;
  }
  void expect_nothing_left() const {
    EXPECT_EQ(driver_.count("objects"), 0);
    EXPECT_EQ(driver_.count("allocated_bytes"), 0);
    EXPECT_EQ(driver_.count("pinned_bytes"), 0);
  }

  RandomModel model_{small_spec(3), StoredFormat::bf16};
};
INSTANTIATE_TEST_SUITE_P(Of, GpuPipelineFailures, testing::Range(0, kNumDevices));

int32_t run_one(StepRunner& runner) {
  runner.admit(0, {.tokens = {1, 2, 3}});
  runner.compute(0, 0, 3, true);
  return runner.run();
}

// Goal: a device that is lost in the middle of a step ends every model on it and no other.
TEST_P(GpuPipelineFailures, PoisonEveryModelOnALostDevice) {
  const std::vector<int32_t> expected = StepRunner(request_on(0)).generate({.tokens = {1, 2, 3}}, 2);
  for (const int64_t peers : {1, 0}) {
    driver_.set("peers", peers);
    {
      StepRunner several(request());
      std::vector<std::unique_ptr<StepRunner>> alone;
      for (int32_t i = 0; i < kNumDevices; ++i) alone.push_back(std::make_unique<StepRunner>(request_on(i)));
      driver_.set("failing_device", GetParam());
      driver_.set("launch_failure_at", 5);
      for (int step = 0; step < 2; ++step) {
        EXPECT_EQ(run_one(several), code_of(ErrorCode::device_lost));
        const std::string text = several.model().step_failure(0);
        EXPECT_NE(text.find("CUDA_ERROR_LAUNCH_FAILED"), std::string::npos) << text;
        EXPECT_NE(text.find(place()), std::string::npos) << text;
      }
      for (int32_t i = 0; i < kNumDevices; ++i) {
        const bool is_lost = i == GetParam();
        EXPECT_EQ(run_one(*alone[static_cast<size_t>(i)]), is_lost ? code_of(ErrorCode::device_lost) : 0);
      }
    }
    expect_nothing_left();
    driver_.set("failing_device", -1);
    EXPECT_EQ(StepRunner(request()).generate({.tokens = {1, 2, 3}}, 2), expected);
  }
}

// Goal: a load that runs out of any device's memory anywhere says which, and leaves nothing on the others.
TEST_P(GpuPipelineFailures, EndALoadWhereverADevicesMemoryRunsOut) {
  driver_.set("failing_device", GetParam());
  int64_t nth = 1;
  for (;; ++nth) {
    ASSERT_LT(nth, 100);
    driver_.fail("cuMemAlloc_v2", nth, kOutOfMemory);
    try {
      StepRunner runner(request());
      break;
    } catch (const Error& error) {
      EXPECT_EQ(name_of(error.code), name_of(ErrorCode::out_of_memory)) << error.what();
      EXPECT_NE(std::string(error.what()).find(place()), std::string::npos) << error.what();
    }
    expect_nothing_left();
  }
  EXPECT_GT(nth, 4);
}

TEST_P(GpuPipelineFailures, NameTheFiguresOfTheDeviceWithoutRoom) {
  driver_.set(("total_memory@" + std::to_string(GetParam())).c_str(), 1 << 20);
  try {
    StepRunner runner(request());
    ADD_FAILURE() << "the load did not fail";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code), name_of(ErrorCode::out_of_memory)) << error.what();
    for (const std::string& part : {std::string("of 1048576 are free"), place()})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
  expect_nothing_left();
}

// What attention splits is made room for on each device, step by step.
TEST_P(GpuPipelineFailures, EndOneStepThatRunsOutOfMemory) {
  StepRunner several(request());
  const std::vector<int32_t> expected = StepRunner(request_on(0)).generate({.tokens = {1, 2, 3}}, 4);
  driver_.set("failing_device", GetParam());
  driver_.fail("cuMemAlloc_v2", 1, kOutOfMemory);
  EXPECT_EQ(run_one(several), code_of(ErrorCode::out_of_memory));
  EXPECT_NE(several.model().step_failure(0).find(place()), std::string::npos);
  EXPECT_EQ(several.generate({.tokens = {1, 2, 3}}, 4), expected);
}

TEST_F(PipelineTest, TellsOfADeviceThatIsLostBetweenSteps) {
  const RandomModel model(small_spec(3), StoredFormat::bf16);
  StepRunner several(pipeline_request(model, {0, 1}));
  EXPECT_EQ(several.generate({.tokens = {1, 2, 3}}, 2).size(), 2U);
  {
    LoadRequest request = gpu_request(model, 0);
    request.device->stages[0].device_idx = 1;
    StepRunner other(request);
    driver_.set("failing_device", 1);
    driver_.set("launch_failure_at", 1);
    EXPECT_EQ(run_one(other), code_of(ErrorCode::device_lost));
  }
  EXPECT_EQ(run_one(several), code_of(ErrorCode::device_lost));
  EXPECT_THROW(StepRunner(pipeline_request(model, {0, 1})), Error);
}

// Goal: nothing is freed that a device still works with. Method: a step ends between the stages, with a copy
// to page-locked memory under way, and the model is closed, which has no memory of the device to free before
// that; a copy that finds it gone spoils its device.
TEST_F(PipelineTest, IsWaitedForBeforeItIsFreed) {
  constexpr int kInvalidValue = 1;
  driver_.set("peers", 0);
  const RandomModel model(small_spec(), StoredFormat::bf16);
  const RandomModel encoder(small_encoder(), StoredFormat::bf16);
  StepRunner other(gpu_request(model, 0));
  {
    StepRunner several(pipeline_request(encoder, {0, 1}));
    driver_.set("failing_device", 1);
    driver_.fail("cuLaunchKernel", 3, kInvalidValue);
    EXPECT_TRUE(several.pooled({.tokens = {1, 2, 3}, .pooling = Pooling::mean}, 64).empty());
    EXPECT_NE(several.model().step_failure(0).find("CUDA_ERROR_INVALID_VALUE"), std::string::npos);
  }
  EXPECT_EQ(run_one(other), 0) << other.model().step_failure(0);
}

// Goal: what a model has taken is given back on each device. Method: another model keeps the contexts alive,
// which would free what was forgotten with them.
TEST_F(PipelineTest, GivesEverythingBackOnEachDevice) {
  constexpr const char* kNames[] = {"allocations", "allocated_bytes", "pinned_bytes", "streams",
                                    "events",      "graph_execs",     "graphs"};
  const RandomModel model(small_spec(3), StoredFormat::bf16);
  for (const auto& [peers, num_cycles] : {std::pair(1, 20), std::pair(0, 4)}) {
    driver_.set("peers", peers);
    const StepRunner kept(pipeline_request(model, {0, 1, 2}));
    std::vector<int64_t> before;
    for (int cycle = 0; cycle < num_cycles; ++cycle) {
      std::vector<int64_t> taken;
      for (int32_t i = 0; i < kNumDevices; ++i)
        for (const char* name : kNames) taken.push_back(count_on(i, name));
      if (cycle == 0) before = taken;
      ASSERT_EQ(taken, before) << "cycle " << cycle;
      StepRunner several(pipeline_request(model, {cycle % 2, 2}));
      EXPECT_EQ(several.generate({.tokens = {1, 2, 3}}, 2).size(), 2U);
    }
  }
  EXPECT_EQ(driver_.count("objects"), 0);
}

}  // namespace
}  // namespace autoglm::test
