// Matrix instructions of a warp: which lane and register holds which element, and the products.
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16" (16-bit types) and "mma.m16n8k32" (8-bit types).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "thread_block.h"

namespace autoglm::emulator {

struct Place {
  int row;
  int col;
};

// kPerWord: elements in a register of A and B, 2 of 16 bits or 4 of 8; k of the product is 8 times as many.
template <int kPerWord>
constexpr Place place_in_a(int lane, int element) {
  const int word = element / kPerWord;
  return {lane / 4 + word % 2 * 8, lane % 4 * kPerWord + element % kPerWord + word / 2 * 4 * kPerWord};
}
// Row is k, col is n.
template <int kPerWord>
constexpr Place place_in_b(int lane, int element) {
  return {lane % 4 * kPerWord + element % kPerWord + element / kPerWord * 4 * kPerWord, lane / 4};
}
constexpr Place place_in_sum(int lane, int element) {
  return {lane / 4 + element / 2 * 8, lane % 4 * 2 + element % 2};
}

struct Bf16Product {
  using Element = uint16_t;
  using Sum = float;
  using Wide = double;
  static constexpr const char* kName = "multiply_bf16";
  static double value(uint16_t bits) { return bf16_to_float(bits); }
};
struct F16Product {
  using Element = uint16_t;
  using Sum = float;
  using Wide = double;
  static constexpr const char* kName = "multiply_f16";
  static double value(uint16_t bits) { return half_to_float(bits); }
};
struct S8Product {
  using Element = int8_t;
  using Sum = int32_t;
  using Wide = int64_t;
  static constexpr const char* kName = "multiply_s8";
  static int64_t value(int8_t element) { return element; }
};

// The 16 (or 32) products of one output are added exactly and then to the sum: hardware may round between.
template <typename Product>
void multiply_in_warp(typename Product::Sum (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  using Wide = typename Product::Wide;
  constexpr int kPerWord = 4 / sizeof(typename Product::Element);
  constexpr int kDepth = 8 * kPerWord;
  struct Operands {
    typename Product::Element a[4 * kPerWord];
    typename Product::Element b[2 * kPerWord];
    typename Product::Sum* sum;
  };
  Operands mine;
  std::memcpy(mine.a, a, sizeof(a));
  std::memcpy(mine.b, &b0, 4);
  std::memcpy(mine.b + kPerWord, &b1, 4);
  mine.sum = sum;
  run_in_warp(Product::kName, &mine, [](void* const* lanes) {
    Wide rows[16][kDepth];
    Wide cols[8][kDepth];
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const auto& each = *static_cast<const Operands*>(lanes[lane]);
      for (int i = 0; i < 4 * kPerWord; ++i) {
        const Place at = place_in_a<kPerWord>(lane, i);
        rows[at.row][at.col] = Product::value(each.a[i]);
      }
      for (int i = 0; i < 2 * kPerWord; ++i) {
        const Place at = place_in_b<kPerWord>(lane, i);
        cols[at.col][at.row] = Product::value(each.b[i]);
      }
    }
    for (int lane = 0; lane < kWarpSize; ++lane) {
      auto* out = static_cast<const Operands*>(lanes[lane])->sum;
      for (int i = 0; i < 4; ++i) {
        const Place at = place_in_sum(lane, i);
        Wide total = 0;
        for (int k = 0; k < kDepth; ++k) total += rows[at.row][k] * cols[at.col][k];
        out[i] = static_cast<typename Product::Sum>(out[i] + total);
      }
    }
  });
}

}  // namespace autoglm::emulator
