// Int8 products for AVX2 with AVX-VNNI: `vpdpbusd` on ymm, which processors without AVX-512 have.
#pragma once

#include "cpu/dot_vnni.h"
#include "cpu/simd_avx2.h"

namespace autoglm::cpu {
namespace {

struct AvxVnniBytes : Avx2 {
  static Int dot_bytes(Int sum, Int weights, Int activations) {
    return _mm256_dpbusd_avx_epi32(sum, weights, activations);
  }
  static Int flip_top_bits(Int bytes) {
    return _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(0x80)));
  }
};

struct AvxVnniMatmul : VnniDot<AvxVnniBytes> {
  // Sixteen registers: 4 rows x 2 vectors of integer sums, 4 of weights, and one activation. The float sums
  // lie on the stack, read and written once per group of 32.
  static constexpr int kMaxInt8Rows = 4;
  template <int kRows>
  static constexpr int kInt8Vectors = kRows == 1 ? 4 : 2;
};

}  // namespace
}  // namespace autoglm::cpu
