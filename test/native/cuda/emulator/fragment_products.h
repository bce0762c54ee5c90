// The products of matrix instructions.
#pragma once

#include <cstdint>
#include <cstring>

#include "thread_block.h"

namespace autoglm::emulator {

template <typename Sum>
struct ProductOperands {
  uint32_t a[4];
  uint32_t b[2];
  Sum* sum;
};

// Each takes the ProductOperands of 32 lanes and adds the products to their sums: m16n8k16, m16n8k32 for s8.
// The 16 (or 32) products of one output are added exactly and then to the sum: hardware may round between.
void combine_bf16(void* const* lanes);
void combine_f16(void* const* lanes);
void combine_s8(void* const* lanes);

template <typename Sum>
void multiply_in_warp(const char* name, Combine combine, Sum (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                      uint32_t b1) {
  ProductOperands<Sum> mine{{}, {b0, b1}, sum};
  std::memcpy(mine.a, a, sizeof(a));
  run_in_warp(name, &mine, combine);
}

}  // namespace autoglm::emulator
