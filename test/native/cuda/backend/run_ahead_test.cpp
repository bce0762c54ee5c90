// Steps that are launched before the tokens of the step before are known.
#include <gtest/gtest.h>

#include <semaphore>

#include "base/error.h"
#include "fake_driver_controls.h"
#include "queued_requests.h"
#include "runtime/engine.h"

namespace autoglm::test {
namespace {

constexpr int kOutOfMemory = 2;  // CUDA_ERROR_OUT_OF_MEMORY: it does not spoil the context

int32_t code_of(ErrorCode code) { return static_cast<int32_t>(code) + 1; }

LoadRequest wide_request(const RandomModel& model) {
  LoadRequest request = gpu_request(model, 0);
  request.max_rows = QueuedRequests::kNumRows;
  request.num_pages = QueuedRequests::kNumRows * StepRunner::kPagesPerRow;
  return request;
}

// Goal: what a request is given does not depend on steps being launched early. Method: random traffic twice,
// the second time without; the fake driver does its work when somebody waits, so that a block written too
// early is what the step before reads.
TEST(GpuRunAhead, GivesRequestsTheSameTokens) {
  const RandomModel model(small_spec(), StoredFormat::bf16);
  constexpr int kNumSteps = 120;
  constexpr uint64_t kSeed = 1;
  StepRunner early(wide_request(model));
  StepRunner late(wide_request(model));
  QueuedRequests ahead(early, kSeed, true);
  QueuedRequests waiting(late, kSeed, false);
  const Answers found = ahead.run(kNumSteps);
  EXPECT_EQ(found, waiting.run(kNumSteps));
  EXPECT_GT(found.size(), 40U);
  EXPECT_GT(ahead.num_ahead(), kNumSteps / 2);
  EXPECT_GT(ahead.num_skipped(), 10);
  EXPECT_EQ(ahead.num_skipped(), waiting.num_skipped());
  EXPECT_EQ(waiting.num_ahead(), 0);
}

// One request whose decodes are submitted beforehand: position 3 in slot 0, and so on.
class GpuRunAheadOfOne : public testing::Test {
 protected:
  static constexpr size_t kNumSlots = 4;

  void begin(StepRunner& gpu) {
    gpu.admit(0, {.tokens = {1, 2, 3}});
    gpu.compute(0, 0, 3, true);
    ASSERT_EQ(gpu.run(), 0);
    for (size_t slot = 0; slot < kNumSlots; ++slot) {
      gpu.compute(0, 3 + static_cast<int64_t>(slot), 1, true);
      gpu.submit(slot);
    }
  }
  static Model::NextSlot behind(size_t slot) {
    return [slot] { return std::optional<int>(static_cast<int>(slot) + 1); };
  }
  int32_t token(const StepRunner& gpu, size_t slot) { return gpu.result(0, abi::ResultRow::token, slot); }

  FakeDriver driver_;
  RandomModel model_{small_spec(), StoredFormat::bf16};
};

TEST_F(GpuRunAheadOfOne, FailsWithTheStepBeforeAndThenGoesOn) {
  StepRunner gpu(model_, Place::gpu);
  begin(gpu);
  driver_.fail("cuEventSynchronize", 1, kOutOfMemory);
  EXPECT_EQ(gpu.run_submitted(0, behind(0)), code_of(ErrorCode::out_of_memory));
  EXPECT_EQ(gpu.run_submitted(1, behind(1)), code_of(ErrorCode::out_of_memory));
  EXPECT_EQ(gpu.model().step_failure(1), gpu.model().step_failure(0));
  EXPECT_EQ(gpu.run_submitted(2), 0);  // its row has ended
  EXPECT_EQ(gpu.result(0, abi::ResultRow::finish, 2), abi::Finish::skipped);
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate({.tokens = {1, 2, 3}}, 4);
  EXPECT_EQ(gpu.generate({.tokens = {1, 2, 3}}, 4), expected);
}

// Goal: a step that cannot be launched early leaves the one before alone, and is done in its turn. Method:
// the first, second... launch of a kernel fails from the moment that the next slot is asked for.
TEST_F(GpuRunAheadOfOne, IsTriedAgainWhereTheEarlyLaunchFails) {
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate({.tokens = {1, 2, 3}}, 3);
  for (const char* function : {"cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuGraphLaunch", "cuEventRecord"}) {
    StepRunner gpu(model_, Place::gpu);
    begin(gpu);
    const Model::NextSlot failing = [&] {
      driver_.fail(function, 1, kOutOfMemory);
      return std::optional<int>(1);
    };
    EXPECT_EQ(gpu.run_submitted(0, failing), 0) << function;
    EXPECT_EQ(token(gpu, 0), expected[1]) << function;
    EXPECT_EQ(gpu.run_submitted(1), 0) << function << ": " << gpu.model().step_failure(1);
    EXPECT_EQ(token(gpu, 1), expected[2]) << function;
  }
}

TEST_F(GpuRunAheadOfOne, PoisonsTheModelOnceTheDeviceIsLost) {
  StepRunner gpu(model_, Place::gpu);
  begin(gpu);
  EXPECT_EQ(gpu.run_submitted(0, behind(0)), 0);
  driver_.set("launch_failure_at", 3);
  for (const size_t slot : {1, 2}) {
    EXPECT_EQ(gpu.run_submitted(slot, behind(slot)), code_of(ErrorCode::device_lost)) << slot;
    EXPECT_NE(gpu.model().step_failure(static_cast<int>(slot)).find("CUDA_ERROR_LAUNCH_FAILED"),
              std::string::npos);
  }
  gpu.admit(0, {.tokens = {1, 2, 3}});
  gpu.compute(0, 0, 3, true);
  EXPECT_EQ(gpu.run(), code_of(ErrorCode::device_lost));
}

TEST_F(GpuRunAheadOfOne, LeavesNothingBehindWhenTheModelIsFreedWithAStepUnderWay) {
  {
    StepRunner gpu(model_, Place::gpu);
    begin(gpu);
    EXPECT_EQ(gpu.run_submitted(0, behind(0)), 0);
  }
  EXPECT_EQ(driver_.count("objects"), 0);
}

// Goal: a row's place is not taken while its last token is being drawn. Method: the next step admits another
// request to the row; the first one's token arrives, and then the other's is that of the request alone.
TEST_F(GpuRunAheadOfOne, LeavesARowToTheStepThatDrawsForIt) {
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate({.tokens = {1, 2, 3}}, 2);
  const std::vector<int32_t> others = StepRunner(model_, Place::gpu).generate({.tokens = {7, 8, 9, 10}}, 2);
  StepRunner gpu(model_, Place::gpu);
  begin(gpu);
  gpu.admit(0, {.tokens = {7, 8, 9, 10}});
  gpu.compute(0, 0, 4, true);
  gpu.submit(1);
  gpu.compute(0, 4, 1, true);
  gpu.submit(2);
  for (const size_t slot : {0, 1, 2}) EXPECT_EQ(gpu.run_submitted(slot, behind(slot)), 0) << slot;
  EXPECT_EQ(token(gpu, 0), expected[1]);
  EXPECT_EQ(token(gpu, 1), others[0]);
  EXPECT_EQ(token(gpu, 2), others[1]);
}

// Goal: the engine's thread names the step behind the one that runs. Method: the steps of a request are
// queued together; its tokens are those of a request alone.
TEST_F(GpuRunAheadOfOne, IsAskedForByTheEngine) {
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate({.tokens = {1, 2, 3}}, 5);
  StepRunner gpu(model_, Place::gpu);
  begin(gpu);
  std::counting_semaphore<> done(0);
  Engine engine(1, choose_isa(probe_cpu(), ""),
                {.on_step = [&](int64_t, int, bool) { done.release(); },
                 .on_model_closed = [](int64_t) {},
                 .on_adapter_removed = [](int32_t) {},
                 .on_stopped = [] {}});
  for (size_t slot = 0; slot < kNumSlots; ++slot) engine.submit(gpu.owned_model(), static_cast<int>(slot));
  for (size_t slot = 0; slot < kNumSlots; ++slot) done.acquire();
  for (size_t slot = 0; slot < kNumSlots; ++slot) EXPECT_EQ(token(gpu, slot), expected[slot + 1]) << slot;
}

}  // namespace
}  // namespace autoglm::test
