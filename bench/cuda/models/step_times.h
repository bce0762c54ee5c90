// Seconds of a step from what the engine's thread told. It tells of some steps together with a later one.
#pragma once

#include <span>

#include "base/error.h"

namespace autoglm::bench {

// When the thread told of a step.
struct StepNotice {
  double seconds = 0;
  double cpu_seconds = 0;  // of that thread, since it began
  bool has_more = false;   // it told of a later one at the same time, so this one had ended before
};

struct StepTimes {
  double step = 0;         // seconds from step to step
  double cpu_of_step = 0;  // of them the thread's own
};

// From the end of the first step whose end is known to that of the last, whose end always is. Throws internal
// where there are no two of them.
inline StepTimes step_times(std::span<const StepNotice> notices) {
  size_t first = 0;
  while (first < notices.size() && notices[first].has_more) ++first;
  if (first + 1 >= notices.size() || notices.back().has_more)
    throw Error(ErrorCode::internal, "expected two steps that were told of at their end");
  const auto count = static_cast<double>(notices.size() - 1 - first);
  return {.step = (notices.back().seconds - notices[first].seconds) / count,
          .cpu_of_step = (notices.back().cpu_seconds - notices[first].cpu_seconds) / count};
}

}  // namespace autoglm::bench
