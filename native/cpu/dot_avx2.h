// The integer part of int8 products for AVX2; see dot_plain.h for what it computes.
//
// `vpmaddubsw` takes unsigned weights and signed activations and adds pairs in 16 bits. Nibbles cannot
// overflow there over a whole group (15 * 127 * 2 * 8 = 30,480), so q4 widens to 32 bits once per group, and
// e2m1, moved up by 16 to 4..28, twice (28 * 127 * 2 * 4 = 28,448). Zero points are added to the sums
// afterwards as -zero * (sum of the activations).
#pragma once

#include "cpu/matmul_int8_kernel.h"
#include "cpu/simd_avx2.h"

namespace autoglm::cpu {
namespace {

struct Avx2Matmul : Avx2 {
  // Sixteen registers: 4 rows x 2 vectors of sums, 4 of weights, and one activation.
  static constexpr int kMaxInt8Rows = 4;
  template <int kRows>
  static constexpr int kInt8Vectors = kRows == 1 ? 4 : 2;
  // 6 rows x 2 vectors of sums; one row needs four sums to hide the latency of a multiply-add.
  static constexpr int kMaxFloatRows = 6;
  template <int kRows>
  static constexpr int kFloatVectors = kRows <= 2 ? 4 : 2;

  // Four activations in every lane.
  static Int broadcast_quad(const int8_t* values) {
    int32_t quad;
    __builtin_memcpy(&quad, values, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  static Int widen(Int pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_part(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                       Int (&dots)[kRows][kVectors]) {
    constexpr ComputeLayout kLayout = kFormat.layout;
    constexpr int kNumParts = kFormat.scales_per_group;
    constexpr bool kIsSigned = kLayout == ComputeLayout::q8 || kLayout == ComputeLayout::iq4;
    if constexpr (kIsSigned) {
      dot_signed<kLayout, kRows, kVectors>(lines, group, rows, dots);
    } else if constexpr (kLayout == ComputeLayout::q6) {
      dot_q6<kNumParts, kPart, kRows, kVectors>(lines, group, rows, dots);
    } else {
      dot_nibbles<kLayout, kNumParts, kPart, kRows, kVectors>(lines, group, rows, dots);
    }
    if constexpr (!kIsSigned && !kFormat.has_min) {
      constexpr int kZeroBits = kLayout == ComputeLayout::q6     ? 5
                                : kLayout == ComputeLayout::e2m1 ? kE2M1ZeroBits
                                                                 : 3;
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const ActivationGroup& sums = rows.groups[r][group];
        Int zero = _mm256_set1_epi32(sums.negative_sum);
        if constexpr (kNumParts == 2) {
          const Int low = _mm256_set1_epi32(sums.negative_low_sum);
          zero = kPart == 0 ? low : _mm256_sub_epi32(zero, low);
        }
        zero = _mm256_slli_epi32(zero, kZeroBits);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) dots[r][v] = _mm256_add_epi32(dots[r][v], zero);
      }
    }
  }

 private:
  static constexpr int kE2M1ZeroBits = 4;

  // The unsigned weights of q4 or e2m1.
  template <ComputeLayout kLayout>
  static Int weights_of(Int codes) {
    if constexpr (kLayout == ComputeLayout::q4) return codes;
    return look_up(load_table(kUnsignedBook<kLayout, kE2M1ZeroBits>.values), codes);
  }

  template <ComputeLayout kLayout, int kNumParts, int kPart, int kRows, int kVectors>
  static void dot_nibbles(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                          Int (&dots)[kRows][kVectors]) {
    constexpr int kFirstOctet = kPart * 2;
    constexpr int kLastOctet = kFirstOctet + 4 / kNumParts;
    constexpr int kSumOctets = kLayout == ComputeLayout::e2m1 ? 2 : kLastOctet - kFirstOctet;
    const Int nibble = _mm256_set1_epi8(15);
    Int pairs[kRows][kVectors];
#pragma GCC unroll 4
    for (int octet = kFirstOctet; octet < kLastOctet; ++octet) {
      Int low[kVectors], high[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Int line = load_int(lines + octet * 128 + v * 32);
        low[v] = weights_of<kLayout>(_mm256_and_si256(line, nibble));
        high[v] = weights_of<kLayout>(_mm256_and_si256(_mm256_srli_epi16(line, 4), nibble));
      }
      const bool is_first = (octet - kFirstOctet) % kSumOctets == 0;
      const bool is_last = (octet - kFirstOctet) % kSumOctets == kSumOctets - 1;
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int8_t* values = rows.values[r] + group * kGroupCols + octet * 8;
        const Int first = broadcast_quad(values);
        const Int second = broadcast_quad(values + 4);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const Int product = _mm256_maddubs_epi16(low[v], first);
          pairs[r][v] = is_first ? product : _mm256_add_epi16(pairs[r][v], product);
          pairs[r][v] = _mm256_add_epi16(pairs[r][v], _mm256_maddubs_epi16(high[v], second));
          // Pins the sum to its register here: GCC 12 else does all products first and spills most of them.
          asm volatile("" : "+x"(pairs[r][v]));
          if (!is_last) continue;
          const Int sum = widen(pairs[r][v]);
          dots[r][v] = octet < kFirstOctet + kSumOctets ? sum : _mm256_add_epi32(dots[r][v], sum);
        }
      }
    }
  }

  // Four columns of q8 or iq4.
  template <ComputeLayout kLayout>
  static Int signed_weights(const std::byte* lines, int quad) {
    if constexpr (kLayout == ComputeLayout::q8) return load_int(lines + quad * 128);
    const Int line = load_int(lines + quad / 2 * 128);
    const Int codes = quad % 2 == 0 ? line : _mm256_srli_epi16(line, 4);
    return look_up(load_table(code_book(kLayout)), _mm256_and_si256(codes, _mm256_set1_epi8(15)));
  }

  // |w| * sign(w) a: 128 * 127 * 2 fits 16 bits, but no sum of two such does.
  template <ComputeLayout kLayout, int kRows, int kVectors>
  static void dot_signed(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                         Int (&dots)[kRows][kVectors]) {
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad) {
      Int weight[kVectors], magnitude[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        weight[v] = signed_weights<kLayout>(lines + v * 32, quad);
        magnitude[v] = _mm256_abs_epi8(weight[v]);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Int activation = broadcast_quad(rows.values[r] + group * kGroupCols + quad * 4);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const Int dot = widen(_mm256_maddubs_epi16(magnitude[v], _mm256_sign_epi8(activation, weight[v])));
          dots[r][v] = quad == 0 ? dot : _mm256_add_epi32(dots[r][v], dot);
          asm volatile("" : "+x"(dots[r][v]));  // as in dot_nibbles
        }
      }
    }
  }

  // Six bits: two pair sums fit 16 bits (63 * 127 * 2 * 2 = 32,004).
  template <int kNumParts, int kPart, int kRows, int kVectors>
  static void dot_q6(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                     Int (&dots)[kRows][kVectors]) {
    const Int nibble = _mm256_set1_epi8(15);
    const Int two_bits = _mm256_set1_epi8(0x30);
    constexpr int kFirstOctet = kPart * 2;
    constexpr int kLastOctet = kFirstOctet + 4 / kNumParts;
#pragma GCC unroll 4
    for (int octet = kFirstOctet; octet < kLastOctet; ++octet) {
      Int first_weight[kVectors], second_weight[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Int line = load_int(lines + octet * 128 + v * 32);
        const Int high = load_int(lines + 512 + octet / 2 * 128 + v * 32);
        const Int first_high = octet % 2 == 0 ? _mm256_slli_epi16(high, 4) : high;
        const Int second_high = octet % 2 == 0 ? _mm256_slli_epi16(high, 2) : _mm256_srli_epi16(high, 2);
        first_weight[v] =
            _mm256_or_si256(_mm256_and_si256(line, nibble), _mm256_and_si256(first_high, two_bits));
        second_weight[v] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(line, 4), nibble),
                                           _mm256_and_si256(second_high, two_bits));
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int8_t* values = rows.values[r] + group * kGroupCols + octet * 8;
        const Int first = broadcast_quad(values);
        const Int second = broadcast_quad(values + 4);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const Int pairs = _mm256_add_epi16(_mm256_maddubs_epi16(first_weight[v], first),
                                             _mm256_maddubs_epi16(second_weight[v], second));
          const Int dot = widen(pairs);
          dots[r][v] = octet == kFirstOctet ? dot : _mm256_add_epi32(dots[r][v], dot);
          asm volatile("" : "+x"(dots[r][v]));  // as in dot_nibbles
        }
      }
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
