// Int8 products for AVX-512 VNNI.
#pragma once

#include "cpu/dot_vnni.h"
#include "cpu/simd_avx512.h"

namespace autoglm::cpu {
namespace {

struct Avx512Bytes : Avx512 {
  static Int dot_bytes(Int sum, Int weights, Int activations) {
    return _mm512_dpbusd_epi32(sum, weights, activations);
  }
  static Int flip_top_bits(Int bytes) {
    return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(0x80)));
  }
};

struct Avx512Matmul : VnniDot<Avx512Bytes> {
  // 32 registers: 6 rows x 2 vectors of integer and of float sums, 4 of weights, one activation.
  static constexpr int kMaxInt8Rows = 6;
  template <int kRows>
  static constexpr int kInt8Vectors = 2;
  static constexpr int kMaxFloatRows = 8;
  template <int kRows>
  static constexpr int kFloatVectors = 2;
};

}  // namespace
}  // namespace autoglm::cpu
