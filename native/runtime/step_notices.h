// Which finished steps JavaScript hears of at once. Waking its thread costs a step of a small model some of
// its time, the more where every core computes; while tokens only follow one another and enough steps are
// queued behind, some of them share a wake-up.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/step_records.h"

namespace autoglm {

// Used by the engine thread alone.
class StepNotices {
 public:
  using Clock = std::chrono::steady_clock;

  struct Notice {
    int64_t model_id = 0;
    int slot = 0;
  };

  // No token is held back for longer than this and the step behind it.
  static constexpr std::chrono::milliseconds kLongestHold{6};
  // With fewer steps queued behind, the engine might wait for the next plan.
  static constexpr size_t kMinQueued = 2;

  StepNotices() { held_.reserve(abi::Limits::queueDepth); }

  // Adds a step that has finished at `now`; `num_queued` steps of its model are next in the queue. Returns
  // the notices to be sent now, in the order of the steps: none while they may wait. Valid until the next
  // call. A step is steady when it only drew one more token for each of its sequences, and all of them go on.
  std::span<const Notice> add(Notice notice, bool is_steady, size_t num_queued, Clock::time_point now) {
    if (is_told_) held_.clear();
    held_.push_back(notice);
    is_told_ = !is_steady || num_queued < kMinQueued || now - told_at_ >= kLongestHold;
    if (!is_told_) return {};
    told_at_ = now;
    return held_;
  }

  // The model whose steps are held is being closed: nobody waits for them.
  void drop() { held_.clear(); }

 private:
  std::vector<Notice> held_;  // of one model: the steps behind are its own
  bool is_told_ = true;       // what is in held_
  Clock::time_point told_at_;
};

}  // namespace autoglm
