// The integer part of int8 products for NEON with 8-bit matrix products; see dot_plain.h for what it
// computes.
//
// `smmla` multiplies two rows of eight weights by two rows of eight activations: twice the products of
// `sdot`. Zipping the two words that a lane has of eight columns makes the rows. A single row of activations
// would waste half of that and takes `sdot`, and so does a row without a partner. All sums are exact: same
// bits.
#pragma once

#include "cpu/dot_neon.h"

namespace autoglm::cpu {
namespace {

struct NeonI8mmMatmul : NeonMatmul {
  template <int kRows>
  static constexpr int kInt8Vectors = kRows == 1 ? 4 : 2;

  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_part(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                       Int (&dots)[kRows][kVectors]) {
    if constexpr (kRows == 1) {
      NeonMatmul::dot_part<kFormat, kPart, kRows, kVectors>(lines, group, rows, dots);
    } else {
      dot_pairs_of_rows<kFormat, kPart, kRows, kVectors>(lines, group, rows, dots);
    }
  }

 private:
  // Two rows of activations and four lanes of weights: lanes 0 and 1, and lanes 2 and 3, as {lane, row}
  // pairs.
  struct Squares {
    Int low, high;
  };

  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_pairs_of_rows(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                                Int (&dots)[kRows][kVectors]) {
    constexpr int kNumParts = kFormat.scales_per_group;
    constexpr int kPairs = kRows / 2;
    constexpr int kLone = kRows - 1;  // the row without a partner where kRows is odd
    Squares sums[kPairs][kVectors];
    Int lone_sums[kVectors];
#pragma GCC unroll 3
    for (int p = 0; p < kPairs; ++p) {
      const Int start = vzip1q_s32(first_sum<kFormat, kPart>(rows.groups[2 * p][group]),
                                   first_sum<kFormat, kPart>(rows.groups[2 * p + 1][group]));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[p][v] = {start, start};
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) lone_sums[v] = first_sum<kFormat, kPart>(rows.groups[kLone][group]);
#pragma GCC unroll 4
    for (int octet = kPart * 2; octet < kPart * 2 + 4 / kNumParts; ++octet) {
      const int64_t col = group * kGroupCols + octet * 8;
      int8x16_t low[kVectors], high[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const NeonOctet weights = octet_of<kFormat.layout>(lines + v * 16, octet);
        const Int first = vreinterpretq_s32_s8(weights.first);
        const Int second = vreinterpretq_s32_s8(weights.second);
        low[v] = vreinterpretq_s8_s32(vzip1q_s32(first, second));
        high[v] = vreinterpretq_s8_s32(vzip2q_s32(first, second));
        if constexpr (kRows % 2 == 1) {
          const int8x8_t lone = vld1_s8(rows.values[kLone] + col);
          lone_sums[v] = vdotq_lane_s32(lone_sums[v], weights.first, lone, 0);
          lone_sums[v] = vdotq_lane_s32(lone_sums[v], weights.second, lone, 1);
        }
      }
#pragma GCC unroll 3
      for (int p = 0; p < kPairs; ++p) {
        const int8x16_t activations =
            vcombine_s8(vld1_s8(rows.values[2 * p] + col), vld1_s8(rows.values[2 * p + 1] + col));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sums[p][v].low = vmmlaq_s32(sums[p][v].low, low[v], activations);
          sums[p][v].high = vmmlaq_s32(sums[p][v].high, high[v], activations);
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 3
      for (int p = 0; p < kPairs; ++p) {
        dots[2 * p][v] = vuzp1q_s32(sums[p][v].low, sums[p][v].high);
        dots[2 * p + 1][v] = vuzp2q_s32(sums[p][v].low, sums[p][v].high);
      }
      if constexpr (kRows % 2 == 1) dots[kLone][v] = lone_sums[v];
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
