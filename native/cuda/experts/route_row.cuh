// The choice of experts for one row, by one warp. Lane i holds experts i, 32 + i, 64 + i, ...
#pragma once

#include "cuda/device/ptx.cuh"
#include "cuda/experts/experts_storage.h"

namespace autoglm::cuda {

inline constexpr float kLargest = __builtin_huge_valf();
inline constexpr float kLeast = -__builtin_huge_valf();
// Against a sum of zero, as on the CPU: far below any sum of scores that counts.
inline constexpr float kSmallestSum = 1e-20f;
inline constexpr uint32_t kSignBit = 0x80000000u;
inline constexpr uint32_t kTaken = 0;  // below the order of every number

// Unsigned integers in the order of numbers; -0 equals 0.
__device__ inline uint32_t order_of(float number) {
  const uint32_t bits = bits_of_float(number + 0.0f);
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}

__device__ inline bool is_nan(float value) { return value != value; }

__device__ inline float sum_of_lanes(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

// A NaN makes every score one, as it does on the CPU.
template <int kSlots>
__device__ void score_by_softmax(const float (&logits)[kSlots], float (&scores)[kSlots]) {
  float most = kLeast;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) most = logits[slot] > most ? logits[slot] : most;
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(most, mask);
    most = other > most ? other : most;
  }
  float sum = 0;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) sum += scores[slot] = expf(logits[slot] - most);
  sum = sum_of_lanes(sum);
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) scores[slot] /= sum;
}

// Bit g: group g is one of the best, a group being as good as its two best experts.
template <int kSlots>
__device__ uint32_t best_groups(const RouteArgs& args, const RowScores<kSlots>& choices) {
  const int lane = thread_x() % kWarpSize;
  const int size = args.num_experts / args.num_groups;
  uint32_t order = kTaken;
  if (lane < args.num_groups) {
    float best = kLeast;
    float second = kLeast;
    for (int i = lane * size; i < (lane + 1) * size; ++i) {
      const float choice = choices.of_expert[score_place(i)];
      const float lower = choice < best ? choice : best;
      second = lower > second ? lower : second;
      best = choice > best ? choice : best;
    }
    const float both = size > 1 ? best + second : best;
    order = order_of(is_nan(both) ? kLargest : both);
  }
  uint32_t groups = 0;
  for (int i = 0; i < args.top_groups; ++i) {
    const uint32_t largest = largest_of_warp(order);
    const auto group =
        static_cast<int>(smallest_of_warp(static_cast<uint32_t>(order == largest ? lane : kMaxExpertGroups)));
    if (lane == group) order = kTaken;
    groups |= 1u << group;
  }
  return groups;
}

// Scores of the lane's experts, and what the choice goes by. The softmax of a row rises with its logits, so
// that without a correction these decide: no rounding of the scores makes a tie or turns one. Scores of
// zero are equal, as they are on the CPU.
template <int kSlots>
__device__ void rank_experts(const RouteArgs& args, int64_t row, RowScores<kSlots>& choices,
                             float (&scores)[kSlots], uint32_t (&orders)[kSlots]) {
  const int lane = thread_x() % kWarpSize;
  const float* from = args.logits + row * args.logits_stride;
  const bool is_softmax = args.score == RouterScore::softmax;
  float logits[kSlots];
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int expert = slot * kWarpSize + lane;
    logits[slot] = expert < args.num_experts ? from[expert] : kLeast;
  }
  if (is_softmax) {
    score_by_softmax<kSlots>(logits, scores);
  } else {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) scores[slot] = 1.0f / (1.0f + expf(-logits[slot]));
  }
  const bool goes_by_logits = is_softmax && args.correction == nullptr;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int expert = slot * kWarpSize + lane;
    orders[slot] = kTaken;
    if (expert >= args.num_experts) continue;
    const float score = args.correction == nullptr ? scores[slot] : scores[slot] + args.correction[expert];
    const float choice = is_nan(score) ? kLargest : score;
    choices.of_expert[score_place(expert)] = choice;
    const float ranked = score > 0 ? logits[slot] : kLeast;
    orders[slot] = order_of(goes_by_logits && !is_nan(score) ? ranked : choice);
  }
}

// Bit s: the lane's expert of slot s is chosen. Of equals the first.
template <int kSlots>
__device__ uint32_t choose_experts(int num_chosen, uint32_t (&orders)[kSlots]) {
  const int lane = thread_x() % kWarpSize;
  uint32_t chosen = 0;
  for (int i = 0; i < num_chosen; ++i) {
    uint32_t largest = kTaken;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) largest = orders[slot] > largest ? orders[slot] : largest;
    largest = largest_of_warp(largest);
    uint32_t expert = kMaxExperts;
#pragma unroll
    for (int slot = kSlots - 1; slot >= 0; --slot) {
      if (orders[slot] == largest) expert = static_cast<uint32_t>(slot * kWarpSize + lane);
    }
    expert = smallest_of_warp(expert);
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      if (expert != static_cast<uint32_t>(slot * kWarpSize + lane)) continue;
      orders[slot] = kTaken;
      chosen |= 1u << slot;
    }
  }
  return chosen;
}

template <int kSlots>
__device__ void write_chosen(const RouteArgs& args, int64_t row, const float (&scores)[kSlots],
                             uint32_t chosen) {
  const int lane = thread_x() % kWarpSize;
  float divisor = 1;
  if (args.normalizes) {
    float sum = 0;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) sum += (chosen >> slot & 1) != 0 ? scores[slot] : 0.0f;
    divisor = sum_of_lanes(sum) + kSmallestSum;
  }
  int64_t place = row * args.num_chosen;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const bool is_chosen = (chosen >> slot & 1) != 0;
    const uint32_t votes = ballot(is_chosen);
    if (is_chosen) {
      const int64_t mine = place + count_bits(votes & ((1u << lane) - 1));
      args.experts[mine] = slot * kWarpSize + lane;
      args.weights[mine] = scores[slot] / divisor * args.scale;
    }
    place += count_bits(votes);
  }
}

template <int kSlots>
__device__ void route_row(const RouteArgs& args, int64_t row, RowScores<kSlots>& choices) {
  float scores[kSlots];
  uint32_t orders[kSlots];
  rank_experts<kSlots>(args, row, choices, scores, orders);
  if (args.top_groups < args.num_groups) {
    sync_warp();
    const uint32_t groups = best_groups<kSlots>(args, choices);
    sync_warp();  // the warp's next row writes its own scores there
    const int size = args.num_experts / args.num_groups;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int group = (slot * kWarpSize + thread_x() % kWarpSize) / size;
      if (group >= args.num_groups || (groups >> group & 1) == 0) orders[slot] = kTaken;
    }
  }
  write_chosen<kSlots>(args, row, scores, choose_experts<kSlots>(args.num_chosen, orders));
}

}  // namespace autoglm::cuda
