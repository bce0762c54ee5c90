// How the work of one step is cut for the threads: what autotuning chooses among. Outputs are cut, sums never
// are, so no choice changes a bit of any result.
#pragma once

#include <cstdint>

namespace autoglm {

struct StepCut {
  int num_threads = 0;          // of the pool; 0 for all
  int64_t chunk_percent = 100;  // of the work that a chunk of a product has where nothing was tuned
};

}  // namespace autoglm
