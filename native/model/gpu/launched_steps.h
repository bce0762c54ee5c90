// Steps that were given to a stream whole and are not waited for yet: the one that runs and the one behind
// it.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "cuda/driver/stream.h"

namespace autoglm::gpu {

class LaunchedSteps {
 public:
  static constexpr size_t kMost = 2;

  explicit LaunchedSteps(const std::shared_ptr<cuda::Context>& context) {
    for (Step& step : steps_) step.is_done = cuda::Event(context);
  }

  // What was queued on `stream` up to here is a step, which draws the sampler's answers `answers_turn`. At
  // most kMost are launched.
  void add(cuda::Stream& stream, size_t answers_turn) {
    Step& step = steps_[(first_ + count_) % kMost];
    stream.record(step.is_done);
    step.answers_turn = answers_turn;
    ++count_;
  }
  // Sleeps until the earliest is done; returns whose answers are there. The others go on.
  size_t await_first() {
    const Step& step = steps_[first_];
    step.is_done.synchronize();
    first_ = (first_ + 1) % kMost;
    --count_;
    return step.answers_turn;
  }
  bool is_empty() const { return count_ == 0; }
  void drop() { count_ = 0; }

 private:
  struct Step {
    cuda::Event is_done;
    size_t answers_turn = 0;
  };

  std::array<Step, kMost> steps_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace autoglm::gpu
