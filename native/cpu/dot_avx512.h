// The integer part of int8 products for AVX-512 VNNI; see dot_plain.h for what it computes.
//
// `vpdpbusd` adds four products of unsigned weights and signed activations to each 32-bit lane. The sums
// start at -zero * (sum of the activations), so a zero point costs nothing.
#pragma once

#include "cpu/matmul_int8_kernel.h"
#include "cpu/simd_avx512.h"

namespace autoglm::cpu {
namespace {

struct Avx512Matmul : Avx512 {
  // 32 registers: 6 rows x 2 vectors of integer and of float sums, 4 of weights, one activation.
  static constexpr int kMaxInt8Rows = 6;
  template <int kRows>
  static constexpr int kInt8Vectors = 2;
  static constexpr int kMaxFloatRows = 8;
  template <int kRows>
  static constexpr int kFloatVectors = 2;

  static Int broadcast_quad(const int8_t* values) {
    int32_t quad;
    __builtin_memcpy(&quad, values, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_part(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                       Int (&dots)[kRows][kVectors]) {
    static_assert(kVectors == 2);
    constexpr ComputeLayout kLayout = kFormat.layout;
    constexpr int kNumParts = kFormat.scales_per_group;
    // The zero point is 2^kZeroBits; q8 and code books get one by being made unsigned.
    constexpr bool kHasZero = kLayout == ComputeLayout::q8 || !kFormat.has_min;
    constexpr int kZeroBits = kLayout == ComputeLayout::q4   ? 3
                              : kLayout == ComputeLayout::q6 ? 5
                                                             : kByteZeroBits;
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const ActivationGroup& sums = rows.groups[r][group];
      Int start = _mm512_setzero_si512();
      if constexpr (kHasZero && kNumParts == 2) {
        const Int low = _mm512_set1_epi32(sums.negative_low_sum);
        start = kPart == 0 ? low : _mm512_sub_epi32(_mm512_set1_epi32(sums.negative_sum), low);
      } else if constexpr (kHasZero) {
        start = _mm512_set1_epi32(sums.negative_sum);
      }
      dots[r][0] = dots[r][1] = _mm512_slli_epi32(start, kZeroBits);
    }
    if constexpr (kLayout == ComputeLayout::q8) {
      dot_q8<kRows>(lines, group, rows, dots);
    } else if constexpr (kLayout == ComputeLayout::q6) {
      dot_q6<kNumParts, kPart, kRows>(lines, group, rows, dots);
    } else {
      dot_nibbles<kLayout, kNumParts, kPart, kRows>(lines, group, rows, dots);
    }
  }

 private:
  static constexpr int kByteZeroBits = 7;

  // The unsigned weights of q4 or of a layout with a code book.
  template <ComputeLayout kLayout>
  static Int weights_of(Int codes) {
    if constexpr (kLayout == ComputeLayout::q4) return codes;
    return look_up(load_table(kUnsignedBook<kLayout, kByteZeroBits>.values), codes);
  }

  template <ComputeLayout kLayout, int kNumParts, int kPart, int kRows>
  static void dot_nibbles(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                          Int (&dots)[kRows][2]) {
    const Int nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int octet = kPart * 2; octet < kPart * 2 + 4 / kNumParts; ++octet) {
      const Int line0 = load_int(lines + octet * 128);
      const Int line1 = load_int(lines + octet * 128 + 64);
      const Int low0 = weights_of<kLayout>(_mm512_and_si512(line0, nibble));
      const Int low1 = weights_of<kLayout>(_mm512_and_si512(line1, nibble));
      const Int high0 = weights_of<kLayout>(_mm512_and_si512(_mm512_srli_epi16(line0, 4), nibble));
      const Int high1 = weights_of<kLayout>(_mm512_and_si512(_mm512_srli_epi16(line1, 4), nibble));
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const int8_t* values = rows.values[r] + group * kGroupCols + octet * 8;
        const Int first = broadcast_quad(values);
        const Int second = broadcast_quad(values + 4);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], low0, first);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], low1, first);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], high0, second);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], high1, second);
      }
    }
  }

  template <int kRows>
  static void dot_q8(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                     Int (&dots)[kRows][2]) {
    const Int to_unsigned = _mm512_set1_epi8(static_cast<char>(0x80));
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad) {
      const Int weight0 = _mm512_xor_si512(load_int(lines + quad * 128), to_unsigned);
      const Int weight1 = _mm512_xor_si512(load_int(lines + quad * 128 + 64), to_unsigned);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const Int activation = broadcast_quad(rows.values[r] + group * kGroupCols + quad * 4);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], weight0, activation);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], weight1, activation);
      }
    }
  }

  template <int kNumParts, int kPart, int kRows>
  static void dot_q6(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                     Int (&dots)[kRows][2]) {
    const Int nibble = _mm512_set1_epi8(15);
    const Int two_bits = _mm512_set1_epi8(0x30);
#pragma GCC unroll 4
    for (int octet = kPart * 2; octet < kPart * 2 + 4 / kNumParts; ++octet) {
      Int first_weight[2], second_weight[2];
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const Int line = load_int(lines + octet * 128 + v * 64);
        const Int high = load_int(lines + 512 + octet / 2 * 128 + v * 64);
        const Int first_high = octet % 2 == 0 ? _mm512_slli_epi16(high, 4) : high;
        const Int second_high = octet % 2 == 0 ? _mm512_slli_epi16(high, 2) : _mm512_srli_epi16(high, 2);
        first_weight[v] =
            _mm512_or_si512(_mm512_and_si512(line, nibble), _mm512_and_si512(first_high, two_bits));
        second_weight[v] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(line, 4), nibble),
                                           _mm512_and_si512(second_high, two_bits));
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const int8_t* values = rows.values[r] + group * kGroupCols + octet * 8;
        const Int first = broadcast_quad(values);
        const Int second = broadcast_quad(values + 4);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], first_weight[0], first);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], first_weight[1], first);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], second_weight[0], second);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], second_weight[1], second);
      }
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
