// How long something takes.
#pragma once

#include <algorithm>
#include <chrono>

namespace autoglm {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Best of several runs: other programs only ever make a run slower.
template <typename Body>
double best_seconds(int num_runs, Body&& body) {
  double best = 1e9;
  for (int run = 0; run < num_runs; ++run) {
    const double start = seconds();
    body();
    best = std::min(best, seconds() - start);
  }
  return best;
}

}  // namespace autoglm
