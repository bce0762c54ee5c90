// The integer part of int8 products where `vpdpbusd` exists; see dot_plain.h for what it computes.
//
// The instruction adds four products of unsigned weights and signed activations to each 32-bit lane. The sums
// start at -zero * (sum of the activations), so a zero point costs nothing.
#pragma once

#include "cpu/matmul_int8_kernel.h"

namespace autoglm::cpu {
namespace {

// S is the vectors' struct with two more operations: dot_bytes(sum, weights, activations), the instruction,
// and flip_top_bits(bytes).
template <typename S>
struct VnniDot : S {
  using Int = typename S::Int;

  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_part(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                       Int (&dots)[kRows][kVectors]) {
    constexpr ComputeLayout kLayout = kFormat.layout;
    constexpr int kNumParts = kFormat.scales_per_group;
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const Int start = first_sum<kFormat, kPart>(rows.groups[r][group]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dots[r][v] = start;
    }
#pragma GCC unroll 4
    for (int octet = kPart * 2; octet < kPart * 2 + 4 / kNumParts; ++octet) {
      Int first[kVectors], second[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        load_octet<kLayout>(lines + v * S::kWidth * 4, octet, first[v], second[v]);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const int8_t* values = rows.values[r] + group * kGroupCols + octet * 8;
        const Int first_quad = broadcast_quad(values);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) dots[r][v] = S::dot_bytes(dots[r][v], first[v], first_quad);
        const Int second_quad = broadcast_quad(values + 4);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) dots[r][v] = S::dot_bytes(dots[r][v], second[v], second_quad);
      }
    }
  }

 private:
  static constexpr int kByteZeroBits = 7;  // q8 and code books get a zero point by being made unsigned

  static Int broadcast_quad(const int8_t* values) {
    int32_t quad;
    __builtin_memcpy(&quad, values, sizeof(quad));
    return S::broadcast_int(quad);
  }

  // What the zero point contributes to the sums of one part of a group.
  template <PackedFormat kFormat, int kPart>
  static Int first_sum(const ActivationGroup& sums) {
    constexpr ComputeLayout kLayout = kFormat.layout;
    if constexpr (kLayout != ComputeLayout::q8 && kFormat.has_min) return S::broadcast_int(0);
    constexpr int kZeroBits = kLayout == ComputeLayout::q4   ? 3
                              : kLayout == ComputeLayout::q6 ? 5
                                                             : kByteZeroBits;
    Int start = S::broadcast_int(sums.negative_sum);
    if constexpr (kFormat.scales_per_group == 2) {
      const Int low = S::broadcast_int(sums.negative_low_sum);
      start = kPart == 0 ? low : S::sub_int(start, low);
    }
    return S::template shift_left<kZeroBits>(start);
  }

  // The unsigned weights of columns 8 o .. 8 o + 3 and of the four columns behind them.
  template <ComputeLayout kLayout>
  static void load_octet(const std::byte* lines, int octet, Int& first, Int& second) {
    if constexpr (kLayout == ComputeLayout::q8) {
      first = S::flip_top_bits(S::load_int(lines + octet * 256));
      second = S::flip_top_bits(S::load_int(lines + octet * 256 + 128));
      return;
    }
    // Shifts of whole words: what crosses from one byte to the next is masked.
    const Int nibbles = S::broadcast_int(0x0f0f0f0f);
    const Int line = S::load_int(lines + octet * 128);
    first = S::and_int(line, nibbles);
    second = S::and_int(S::template shift_right<4>(line), nibbles);
    if constexpr (has_code_book(kLayout)) {
      const auto book = S::load_table(kUnsignedBook<kLayout, kByteZeroBits>.values);
      first = S::look_up(book, first);
      second = S::look_up(book, second);
    } else if constexpr (kLayout == ComputeLayout::q6) {
      const Int two_bits = S::broadcast_int(0x30303030);
      const Int high = S::load_int(lines + 512 + octet / 2 * 128);
      const Int first_high = octet % 2 == 0 ? S::template shift_left<4>(high) : high;
      const Int second_high =
          octet % 2 == 0 ? S::template shift_left<2>(high) : S::template shift_right<2>(high);
      first = S::or_int(first, S::and_int(first_high, two_bits));
      second = S::or_int(second, S::and_int(second_high, two_bits));
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
