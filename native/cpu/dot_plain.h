// The integer part of int8 products in plain C++. Every product and sum is an integer below 2^24, so float
// arithmetic is exact, and multiplying floats is what every baseline instruction set can do four at a time.
#pragma once

#include "cpu/matmul_int8_kernel.h"
#include "cpu/simd_plain.h"

namespace autoglm::cpu {
namespace {

struct PlainMatmul : Plain {
  // 4 rows x 2 vectors of sums in the sixteen registers of x86-64.
  static constexpr int kMaxInt8Rows = 4;
  template <int kRows>
  static constexpr int kInt8Vectors = kRows == 1 ? 4 : 2;
  static constexpr int kMaxFloatRows = 4;
  template <int kRows>
  static constexpr int kFloatVectors = kRows == 1 ? 4 : 2;

  // Column `col` (0..31) of one vector of lanes: the code with mins, else with the zero point subtracted.
  template <PackedFormat kFormat>
  static Int weight(const std::byte* lines, int col) {
    const auto field = [](Int words, int shift, int32_t mask) {
      return reinterpret_cast<Int>(reinterpret_cast<Unsigned>(words) >> static_cast<uint32_t>(shift)) &
             broadcast_int(mask);
    };
    const int byte = col % 4 * 8;
    if constexpr (kFormat.layout == ComputeLayout::q8) {
      const Int words = load_int(lines + col / 4 * 128);
      return shift_right_signed<24>(
          reinterpret_cast<Int>(reinterpret_cast<Unsigned>(words) << static_cast<uint32_t>(24 - byte)));
    } else {
      const Int nibble = field(load_int(lines + col / 8 * 128), byte + col % 8 / 4 * 4, 15);
      if constexpr (has_code_book(kFormat.layout)) {
        const auto& values = code_book(kFormat.layout);
        return Int{values[nibble[0]], values[nibble[1]], values[nibble[2]], values[nibble[3]]};
      }
      constexpr int kZero = kFormat.has_min ? 0 : zero_code(kFormat.layout);
      if constexpr (kFormat.layout == ComputeLayout::q4) return nibble - kZero;
      const Int high = field(load_int(lines + 512 + col / 16 * 128), byte + col % 16 / 4 * 2, 3);
      return (nibble | high << 4) - kZero;
    }
  }

  // dots[row][v] lane i = sum over the part's columns of weight * activation, for lane v * kWidth + i after
  // `lines`. `group` is the index of the group of 32 columns.
  template <PackedFormat kFormat, int kPart, int kRows, int kVectors>
  static void dot_part(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                       Int (&dots)[kRows][kVectors]) {
    constexpr int kPartCols = kGroupCols / kFormat.scales_per_group;
    Float sums[kRows][kVectors] = {};
    for (int col = kPart * kPartCols; col < (kPart + 1) * kPartCols; ++col) {
      Float weights[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        weights[v] = to_float(weight<kFormat>(lines + v * kWidth * 4, col));
      }
      for (int r = 0; r < kRows; ++r) {
        const Float activation = broadcast(rows.values[r][group * kGroupCols + col]);
        for (int v = 0; v < kVectors; ++v) sums[r][v] += weights[v] * activation;
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) dots[r][v] = __builtin_convertvector(sums[r][v], Int);
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
