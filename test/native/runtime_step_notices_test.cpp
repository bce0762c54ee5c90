// Which finished steps are told at once.
#include <gtest/gtest.h>

#include <vector>

#include "runtime/step_notices.h"

namespace autoglm {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class StepNoticesTest : public testing::Test {
 protected:
  // The slots told once the step in `slot` has ended `elapsed` after the one before.
  std::vector<int> end_step(int slot, bool is_steady, size_t num_queued,
                            microseconds elapsed = microseconds(100)) {
    now_ += elapsed;
    std::vector<int> slots;
    for (const auto& notice : notices_.add({.model_id = 1, .slot = slot}, is_steady, num_queued, now_))
      slots.push_back(notice.slot);
    return slots;
  }

  StepNotices notices_;
  StepNotices::Clock::time_point now_{std::chrono::hours(1)};
};

TEST_F(StepNoticesTest, HoldsSteadyStepsWhileTwoAreQueuedBehind) {
  EXPECT_EQ(end_step(0, false, 3), std::vector<int>{0});
  EXPECT_EQ(end_step(1, true, 3), std::vector<int>{});
  EXPECT_EQ(end_step(2, true, 2), std::vector<int>{});
  EXPECT_EQ(end_step(3, true, 1), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(end_step(0, true, 2), std::vector<int>{});
  EXPECT_EQ(end_step(1, true, 0), (std::vector<int>{0, 1}));
}

TEST_F(StepNoticesTest, TellsAtOnceOfAnythingButMoreTokens) {
  end_step(0, false, 3);
  EXPECT_EQ(end_step(1, true, 3), std::vector<int>{});
  EXPECT_EQ(end_step(2, false, 3), (std::vector<int>{1, 2}));
}

TEST_F(StepNoticesTest, HoldsNoTokenForLong) {
  end_step(0, false, 3);
  EXPECT_EQ(end_step(1, true, 3, StepNotices::kLongestHold - microseconds(1)), std::vector<int>{});
  EXPECT_EQ(end_step(2, true, 3, microseconds(1)), (std::vector<int>{1, 2}));
  EXPECT_EQ(end_step(3, true, 3, milliseconds(30)), std::vector<int>{3});
}

TEST_F(StepNoticesTest, ForgetsWhatNobodyWaitsFor) {
  end_step(0, false, 3);
  end_step(1, true, 3);
  notices_.drop();
  EXPECT_EQ(end_step(2, true, 0), std::vector<int>{2});
}

}  // namespace
}  // namespace autoglm
