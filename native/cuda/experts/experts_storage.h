// The shared memory of the routing kernels, for the kernels and their launchers.
#pragma once

#include <cstdint>

#include "cuda/experts/route.h"

namespace autoglm::cuda {

inline constexpr int kRouteWarps = 4;             // one row each
inline constexpr int kPairThreads = kMaxExperts;  // one per expert
inline constexpr int kPairWarps = kPairThreads / 32;

// Where an expert's score lies: lanes that walk groups of 32 or more meet different banks.
constexpr int score_place(int expert) { return expert + expert / 32; }

// The scores of one row of 32 * kSlots experts.
template <int kSlots>
struct RowScores {
  float of_expert[score_place(32 * kSlots)];
};

template <int kSlots>
struct RouteStorage {
  RowScores<kSlots> rows[kRouteWarps];
};

// Of 32 * kWords rows.
template <int kWords>
struct PairStorage {
  uint32_t rows[kWords][kMaxExperts];       // bit r of word w: row 32 w + r chose the expert
  int32_t first_pair[kWords][kMaxExperts];  // of the expert among the rows of word w
  int32_t warp_sums[kPairWarps];
};

template <int kSlots>
struct RouteFewStorage {
  RowScores<kSlots> rows[kPairWarps];
  PairStorage<1> pairs;
};

}  // namespace autoglm::cuda
