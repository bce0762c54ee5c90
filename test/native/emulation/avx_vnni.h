// Stands in for the one instruction of AVX-VNNI that the kernels use, on a processor that has AVX2 only.
#pragma once

#include <immintrin.h>

namespace emulation {

// Each lane: sum + four products of unsigned bytes of a and signed bytes of b. Source: Intel Intrinsics
// Guide.
inline __m256i dpbusd(__m256i sum, __m256i a, __m256i b) {
  const __m256i low_byte = _mm256_set1_epi16(0xff);
  const __m256i even =
      _mm256_madd_epi16(_mm256_and_si256(a, low_byte), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

}  // namespace emulation

#define _mm256_dpbusd_avx_epi32 emulation::dpbusd
