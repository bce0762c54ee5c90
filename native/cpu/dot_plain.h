// The integer part of int8 products in plain C++: the definition of what dot_avx2.h and dot_avx512.h compute.
#pragma once

#include "cpu/matmul_int8_kernel.h"
#include "cpu/simd_plain.h"

namespace autoglm::cpu {
namespace {

struct PlainMatmul : Plain {
  static constexpr int kMaxInt8Rows = 4;
  static constexpr int kMaxFloatRows = 4;
  template <int kRows>
  static constexpr int kInt8Vectors = 4;
  template <int kRows>
  static constexpr int kFloatVectors = 4;

  // Weight of column `col` of the group as the products see it: unsigned for q4 with mins, else with its zero
  // point.
  template <ComputeLayout kLayout, bool kHasMin>
  static int weight(const std::byte* lines, int lane, int col) {
    const auto byte = [&](int offset) { return static_cast<int>(lines[offset + lane * 4]); };
    if constexpr (kLayout == ComputeLayout::q8) {
      return static_cast<int8_t>(byte(col / 4 * 128 + col % 4));
    } else {
      const int nibble = byte(col / 8 * 128 + col % 4) >> (col % 8 / 4 * 4) & 15;
      if constexpr (kLayout == ComputeLayout::q4) return kHasMin ? nibble : nibble - 8;
      const int high = byte(512 + col / 16 * 128 + col % 4) >> (col % 16 / 4 * 2) & 3;
      return (nibble | high << 4) - 32;
    }
  }

  // dots[part][row][v] lane i = sum over the part's columns of weight * activation, for lane v * kWidth + i
  // after `lines`. `group` is the index of the group of 32 columns.
  template <ComputeLayout kLayout, bool kHasMin, int kRows, int kVectors>
  static void dot_group(const std::byte* lines, int64_t group, const Int8Rows<kRows>& rows,
                        Int (&dots)[kNumParts<kLayout>][kRows][kVectors]) {
    constexpr int kPartCols = kGroupCols / kNumParts<kLayout>;
    for (int lane = 0; lane < kVectors * kWidth; ++lane) {
      int weights[kGroupCols];
      for (int col = 0; col < kGroupCols; ++col) weights[col] = weight<kLayout, kHasMin>(lines, lane, col);
      for (int part = 0; part < kNumParts<kLayout>; ++part) {
        for (int r = 0; r < kRows; ++r) {
          const int8_t* values = rows.values[r] + group * kGroupCols;
          int dot = 0;
          for (int col = part * kPartCols; col < (part + 1) * kPartCols; ++col)
            dot += weights[col] * values[col];
          dots[part][r][lane / kWidth].lane[lane % kWidth] = dot;
        }
      }
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
