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

// What the driver does beside what it is told.
struct Habit {
  const char* name;
  const char* setting;  // of the fake driver; null for none
  uint64_t seed;
};

class GpuRunAhead : public testing::TestWithParam<Habit> {};

INSTANTIATE_TEST_SUITE_P(Driver, GpuRunAhead,
                         testing::Values(Habit{"WorksWhenWaitedFor", nullptr, 4},
                                         Habit{"RunsPastWhatIsWaitedFor", "runs_past", 2},
                                         Habit{"FreesAtOnce", "frees_at_once", 3}),
                         [](const auto& each) { return each.param.name; });

// Goal: what a request is given does not depend on steps being launched early. Method: random traffic twice,
// the second time without. The fake driver does its work when somebody waits, so that a block written too
// early is what the step before reads; or it does the work of the next step at the same time, so that this
// one's answers must lie elsewhere; or it frees memory while a step is still to read it.
TEST_P(GpuRunAhead, GivesRequestsTheSameTokens) {
  FakeDriver driver;
  if (GetParam().setting != nullptr) driver.set(GetParam().setting, 1);
  const RandomModel model(small_spec(), StoredFormat::bf16);
  constexpr int kNumSteps = 60;
  StepRunner early(wide_request(model));
  StepRunner late(wide_request(model));
  QueuedRequests ahead(early, GetParam().seed, true);
  QueuedRequests waiting(late, GetParam().seed, false);
  const Answers found = ahead.run(kNumSteps);
  EXPECT_EQ(found, waiting.run(kNumSteps));
  EXPECT_GT(found.size(), 20U);
  EXPECT_GT(ahead.num_ahead(), kNumSteps / 4);
  EXPECT_GT(ahead.num_skipped(), 5);
  EXPECT_EQ(ahead.num_skipped(), waiting.num_skipped());
  EXPECT_EQ(waiting.num_ahead(), 0);
}

// One request whose decodes are submitted beforehand: position 3 in the first slot, and so on.
class GpuRunAheadOfOne : public testing::Test {
 protected:
  static constexpr size_t kNumSlots = 4;

  static void begin(StepRunner& gpu, size_t first_slot = 0) {
    gpu.admit(0, {.tokens = {1, 2, 3}});
    gpu.compute(0, 0, 3, true);
    ASSERT_EQ(gpu.run(), 0);
    for (size_t i = 0; i < kNumSlots; ++i) {
      gpu.compute(0, 3 + static_cast<int64_t>(i), 1, true);
      gpu.submit((first_slot + i) % kNumSlots);
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

TEST_F(GpuRunAheadOfOne, GoesOnAfterAFailureWithNothingBehind) {
  StepRunner gpu(model_, Place::gpu);
  begin(gpu);
  driver_.fail("cuEventSynchronize", 1, kOutOfMemory);
  EXPECT_EQ(gpu.run_submitted(0), code_of(ErrorCode::out_of_memory));
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate({.tokens = {1, 2, 3}}, 4);
  EXPECT_EQ(gpu.generate({.tokens = {1, 2, 3}}, 4), expected);
}

// Goal: what must grow for a step is not taken from the one that runs. Method: the second step is the first
// with a penalty, and freeing waits for nothing.
TEST_F(GpuRunAheadOfOne, GrowsBehindTheStepThatRuns) {
  driver_.set("frees_at_once", 1);
  const Request request{.tokens = {1, 2, 3}, .sampling = {.temperature = 1.5F, .top_p = 0.9F, .seed = 4}};
  const Request long_one{.tokens = random_tokens(301, 96, 5),
                         .sampling = {.temperature = 0, .repetition_penalty = 1.3F}};
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate(request, 4);
  const std::vector<int32_t> others = StepRunner(model_, Place::gpu).generate(long_one, 1);
  StepRunner gpu(model_, Place::gpu);
  gpu.admit(0, request);
  gpu.compute(0, 0, 3, true);
  ASSERT_EQ(gpu.run(), 0);
  gpu.admit(1, long_one);
  for (int64_t start = 0; start < 299; start += 23) {
    gpu.compute(1, start, 23, false);
    ASSERT_EQ(gpu.run(), 0);
  }
  gpu.compute(0, 3, 1, true);
  gpu.compute(1, 299, 1, false);
  ASSERT_EQ(gpu.run(), 0);  // records the graph of two rows, which waits for all before
  gpu.compute(0, 4, 1, true);
  gpu.submit(0);
  gpu.compute(0, 5, 1, true);
  gpu.compute(1, 300, 1, true);
  gpu.submit(1);
  ASSERT_EQ(gpu.run_submitted(0, behind(0)), 0);
  ASSERT_TRUE(gpu.model().has_launched_next());
  ASSERT_EQ(gpu.run_submitted(1), 0) << gpu.model().step_failure(1);
  EXPECT_EQ(token(gpu, 0), expected[2]);
  EXPECT_EQ(token(gpu, 1), expected[3]);
  EXPECT_EQ(gpu.result(1, abi::ResultRow::token, 1), others[0]);
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

// Goal: the engine's thread names the step behind the one that runs, if it is of the same model. Method: the
// steps of a request are queued together, alone and between those of another model; tokens are those of a
// request alone.
TEST_F(GpuRunAheadOfOne, IsAskedForByTheEngine) {
  const std::vector<int32_t> expected = StepRunner(model_, Place::gpu).generate({.tokens = {1, 2, 3}}, 5);
  for (const bool has_other : {false, true}) {
    StepRunner gpu(model_, Place::gpu), other(model_, Place::gpu);
    begin(gpu);
    begin(other, 1);
    std::counting_semaphore<> done(0);
    int num_launched = 0;
    Engine engine(1, choose_isa(probe_cpu(), ""),
                  {.on_step =
                       [&](int64_t, int, bool) {
                         num_launched += gpu.model().has_launched_next() ? 1 : 0;
                         done.release();
                       },
                   .on_model_closed = [](int64_t) {},
                   .on_adapter_removed = [](int32_t) {},
                   .on_stopped = [] {}});
    for (size_t slot = 0; slot < kNumSlots; ++slot) {
      engine.submit(gpu.owned_model(), static_cast<int>(slot));
      if (has_other) engine.submit(other.owned_model(), static_cast<int>((slot + 1) % kNumSlots));
    }
    for (size_t i = 0; i < (has_other ? 2 : 1) * kNumSlots; ++i) done.acquire();
    for (size_t slot = 0; slot < kNumSlots; ++slot) {
      EXPECT_EQ(token(gpu, slot), expected[slot + 1]) << slot;
      if (!has_other) continue;
      EXPECT_EQ(token(other, (slot + 1) % kNumSlots), expected[slot + 1]) << slot;
    }
    EXPECT_EQ(num_launched > 0, !has_other);
  }
}

}  // namespace
}  // namespace autoglm::test
