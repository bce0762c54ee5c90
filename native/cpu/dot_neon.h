// The integer part of int8 products for NEON; see dot_plain.h for what it computes.
//
// Both operands of `sdot` are signed, which unsigned codes of up to 7 bits are, too: a lane of weights meets
// the quad of activations that the instruction picks from one register. Zero points start the sums, as in
// AVX-512.
#pragma once

#include "cpu/matmul_int8_kernel.h"
#include "cpu/simd_neon.h"

namespace autoglm::cpu {
namespace {

// The codes of columns 8 o .. 8 o + 7 of four lanes as signed bytes: the first four columns, and the others.
struct NeonOctet {
  int8x16_t first, second;
};

struct NeonMatmul : Neon {
  // 32 registers: 6 rows x 2 vectors of integer and of float sums, 4 of weights, one of activations.
  static constexpr int kMaxInt8Rows = 6;
  template <int kRows>
  static constexpr int kInt8Vectors = kRows <= 2 ? 4 : 2;
  // 6 rows x 4 vectors of sums, 4 of weights, and one activation.
  static constexpr int kMaxFloatRows = 6;
  template <int kRows>
  static constexpr int kFloatVectors = 4;

  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_part(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                       Int (&dots)[kRows][kVectors]) {
    constexpr int kNumParts = kFormat.scales_per_group;
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const Int start = first_sum<kFormat, kPart>(rows.groups[r][group]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dots[r][v] = start;
    }
#pragma GCC unroll 4
    for (int octet = kPart * 2; octet < kPart * 2 + 4 / kNumParts; ++octet) {
      NeonOctet weights[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) weights[v] = octet_of<kFormat.layout>(lines + v * 16, octet);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const int8x8_t activations = vld1_s8(rows.values[r] + group * kGroupCols + octet * 8);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          dots[r][v] = vdotq_lane_s32(dots[r][v], weights[v].first, activations, 0);
          dots[r][v] = vdotq_lane_s32(dots[r][v], weights[v].second, activations, 1);
        }
      }
    }
  }

  // Where the sums of one part of a group start: what zero points contribute.
  template <PackedFormat kFormat, int kPart>
  static Int first_sum(const ActivationGroup& sums) {
    constexpr bool kHasZero =
        !kFormat.has_min && (kFormat.layout == ComputeLayout::q4 || kFormat.layout == ComputeLayout::q6);
    if constexpr (!kHasZero) return broadcast_int(0);
    constexpr int kZeroBits = kFormat.layout == ComputeLayout::q4 ? 3 : 5;
    int32_t negative = sums.negative_sum;
    if constexpr (kFormat.scales_per_group == 2) {
      negative = kPart == 0 ? sums.negative_low_sum : negative - sums.negative_low_sum;
    }
    return shift_left<kZeroBits>(broadcast_int(negative));
  }

  template <ComputeLayout kLayout>
  static NeonOctet octet_of(const std::byte* lines, int octet) {
    if constexpr (kLayout == ComputeLayout::q8) {
      return {vreinterpretq_s8_s32(load_int(lines + octet * 256)),
              vreinterpretq_s8_s32(load_int(lines + octet * 256 + 128))};
    } else {
      const uint8x16_t line = vreinterpretq_u8_s32(load_int(lines + octet * 128));
      uint8x16_t first = vandq_u8(line, vdupq_n_u8(15));
      uint8x16_t second = vshrq_n_u8(line, 4);
      if constexpr (has_code_book(kLayout)) {
        const Table book = load_table(code_book(kLayout));
        return {vqtbl1q_s8(book, first), vqtbl1q_s8(book, second)};
      } else if constexpr (kLayout == ComputeLayout::q6) {
        const uint8x16_t high = vreinterpretq_u8_s32(load_int(lines + 512 + octet / 2 * 128));
        const uint8x16_t two_bits = vdupq_n_u8(0x30);
        const uint8x16_t first_high = octet % 2 == 0 ? vshlq_n_u8(high, 4) : high;
        const uint8x16_t second_high = octet % 2 == 0 ? vshlq_n_u8(high, 2) : vshrq_n_u8(high, 2);
        first = vorrq_u8(first, vandq_u8(first_high, two_bits));
        second = vorrq_u8(second, vandq_u8(second_high, two_bits));
      }
      return {vreinterpretq_s8_u8(first), vreinterpretq_s8_u8(second)};
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
