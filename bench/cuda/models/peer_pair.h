// Rates of ours that surround one of a peer.
#pragma once

#include <cmath>

namespace autoglm::bench {

struct PeerPair {
  double before = 0;
  double theirs = 0;
  double after = 0;

  double ratio() const { return (before + after) / 2 / theirs; }
  // Something else than the two has changed meanwhile: clocks, or a neighbour.
  bool is_void() const {
    constexpr double kMostDrift = 0.1;
    return std::abs(after / before - 1) > kMostDrift;
  }
};

}  // namespace autoglm::bench
