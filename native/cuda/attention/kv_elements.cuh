// Codes of int8 and fp8 pages as pairs of bfloat16, the operands of products. Both conversions are exact; NaN
// and infinity travel in the scales.
#pragma once

#include "cuda/attention/page_layout.h"
#include "cuda/device/ptx.cuh"

namespace autoglm::cuda {

// pairs[0] = bytes 0 and 2 of `word`, pairs[1] = bytes 1 and 3. Byte order is the caller's to arrange: this
// one needs no permutation.
//
// int8: 0x4300 is 128, and its mantissa counts ones. So with 7 bits of the code in it, less 128, or less 256
// (0x4380) where the sign bit is set, it is the code.
__device__ inline void widen_int8(uint32_t word, uint32_t (&pairs)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t bytes = i == 0 ? word : word >> 8;
    const uint32_t low_bits = (bytes & 0x007f007fu) | 0x43004300u;
    const uint32_t offset = (bytes & 0x00800080u) | 0xc300c300u;
    pairs[i] = multiply_add_bf16x2(low_bits, 0x3f803f80u, offset);
  }
}

// e4m3: its exponent and mantissa at the place of bfloat16's make a number 2^-120 of the code's, subnormal or
// not. 0x7b80 is 2^120.
__device__ inline void widen_fp8(uint32_t word, uint32_t (&pairs)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t bytes = i == 0 ? word << 8 : word;
    const uint32_t shifted = (bytes & 0x80008000u) | (bytes & 0x7f007f00u) >> 4;
    pairs[i] = multiply_add_bf16x2(shifted, 0x7b807b80u, 0x80008000u);
  }
}

template <KvType kType>
__device__ void widen(uint32_t word, uint32_t (&pairs)[2]) {
  static_assert(has_scales(kType));
  if constexpr (kType == KvType::int8) {
    widen_int8(word, pairs);
  } else {
    widen_fp8(word, pairs);
  }
}

}  // namespace autoglm::cuda
