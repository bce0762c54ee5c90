// When a step's work begins and ends on the device: a context whose driver sets marks of its own around it.
#pragma once

#include <memory>

#include "lab.h"

namespace autoglm::bench {

// The lab's device once more, by a driver of its own; one at a time. Throws what cuda::open_device throws.
std::shared_ptr<cuda::Context> open_marked_device(Lab& lab);

// What lay between the marks of some steps, in seconds of the device's clock.
struct StepGaps {
  double total = 0;  // from the first step's end to the last one's
  double in_gaps =
      0;  // from the end of a step's work to the first kernel of the next; its copies belong here
  int num_gaps = 0;
};

// Marks are set between these two, by steps of the context of open_marked_device that are replayed graphs.
void begin_marks(size_t most_steps);
// Once all steps are over. Throws internal where they do not have `num_gaps` gaps between them.
StepGaps end_marks(int num_gaps);

}  // namespace autoglm::bench
