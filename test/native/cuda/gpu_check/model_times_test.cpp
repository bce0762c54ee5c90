// How bench/cuda/models comes from what it saw of steps to their times.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "cuda/driver/graph.h"
#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "models/peer_pair.h"
#include "models/step_marks.h"
#include "models/step_times.h"

namespace autoglm::test {
namespace {

TEST(StepTimes, BeginAtAStepThatWasToldOfAtItsEnd) {
  // Steps end at 1, 2, ... 7 s and take 0.25 s of the thread; the first two are told of with the third.
  const std::vector<bench::StepNotice> notices = {{3, 10.75, true}, {3, 10.75, true}, {3, 10.75}, {4, 11},
                                                  {6, 11.5, true},  {6, 11.5},        {7, 11.75}};
  EXPECT_DOUBLE_EQ(bench::step_times(notices).step, 1);
  EXPECT_DOUBLE_EQ(bench::step_times(notices).cpu_of_step, 0.25);
}

TEST(StepTimes, NeedTwoSteps) {
  const std::vector<bench::StepNotice> notices = {{3, 1, true}, {3, 1}};
  EXPECT_THROW((void)bench::step_times(notices), Error);
  EXPECT_THROW((void)bench::step_times({}), Error);
}

TEST(PeerPair, IsVoidWhereOursDrifts) {
  const bench::PeerPair steady{.before = 100, .theirs = 50, .after = 109};
  EXPECT_DOUBLE_EQ(steady.ratio(), 2.09);
  EXPECT_FALSE(steady.is_void());
  EXPECT_TRUE((bench::PeerPair{.before = 100, .theirs = 50, .after = 111}).is_void());
  EXPECT_TRUE((bench::PeerPair{.before = 100, .theirs = 50, .after = 89}).is_void());
}

// Four steps of a graph that take 20 ms, with 5 ms between them.
class StepMarks : public testing::Test {
 protected:
  static constexpr double kStep = 0.02;
  static constexpr double kGap = 0.005;

  static void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

  void run_steps(int count) {
    for (int i = 0; i < count; ++i) {
      stream_.copy_to_device(memory_.data(), &count, sizeof(count));
      graph_.launch(stream_);
      sleep(kStep);
      stream_.record(is_done_);
      is_done_.synchronize();
      sleep(kGap);
    }
  }

  bench::Lab lab_{{.library = AUTOGLM_FAKE_CUDA, .is_toy = true}};
  std::shared_ptr<cuda::Context> context_ = bench::open_marked_device(lab_);
  cuda::Stream stream_{context_};
  cuda::Event is_done_{context_};
  cuda::DeviceMemory memory_{context_, 64};
  cuda::GraphExec graph_{cuda::capture(stream_, [this] { stream_.fill(memory_.data(), 0, 64); })};
};

TEST_F(StepMarks, AGapIsFromTheEndOfAStepToTheLaunchOfTheNext) {
  bench::begin_marks(4);
  run_steps(4);
  const bench::StepGaps gaps = bench::end_marks(3);
  EXPECT_EQ(gaps.num_gaps, 3);
  // A sleep may take longer, never less.
  EXPECT_GE(gaps.in_gaps, 3 * kGap);
  EXPECT_GE(gaps.total - gaps.in_gaps, 3 * kStep);
}

TEST_F(StepMarks, AStepWithoutMarksIsAnError) {
  bench::begin_marks(4);
  run_steps(3);
  EXPECT_THROW(bench::end_marks(3), Error);
  bench::begin_marks(4);
  run_steps(4);
  EXPECT_THROW(bench::end_marks(2), Error);
}

}  // namespace
}  // namespace autoglm::test
