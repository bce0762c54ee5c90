// Matrix instructions of a warp: which lane and register holds which element.
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16" (16-bit types) and "mma.m16n8k32" (8-bit types).
#pragma once

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

}  // namespace autoglm::emulator
