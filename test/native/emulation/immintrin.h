// Stands in for the compiler's header when the AVX-512 kernels are built for a processor without it: every
// intrinsic they use, over plain arrays. Semantics: Intel Intrinsics Guide. An intrinsic that is missing here
// fails to compile.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

struct __m512 {
  float lane[16];
};
struct __m512i {
  int32_t lane[16];
};
struct __m256i {
  uint16_t lane[16];
};
struct __m128i {
  int8_t lane[16];
};
struct __m512bh {
  uint16_t lane[32];
};
struct __m256bh {
  uint16_t lane[16];
};
using __mmask16 = uint16_t;

constexpr int _CMP_NLT_UQ = 5;

namespace emulation {

template <typename Function>
__m512 floats(Function&& function) {
  __m512 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = function(i);
  return out;
}
template <typename Function>
__m512i ints(Function&& function) {
  __m512i out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<int32_t>(function(i));
  return out;
}
template <typename To, typename From>
To reinterpret(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
inline float half_to_float(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int mantissa = half & 1023;
  float value = exponent == 31  ? (mantissa != 0 ? NAN : INFINITY)
                : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return (half & 0x8000) != 0 ? -value : value;
}
template <typename Function>
__m512i words(const __m512i& a, Function&& function) {
  uint16_t word[32];
  std::memcpy(word, a.lane, sizeof(word));
  for (uint16_t& each : word) each = static_cast<uint16_t>(function(each));
  __m512i out;
  std::memcpy(out.lane, word, sizeof(word));
  return out;
}

}  // namespace emulation

inline __m512 _mm512_set1_ps(float a) {
  return emulation::floats([&](int) { return a; });
}
inline __m512 _mm512_setzero_ps() { return _mm512_set1_ps(0); }
inline __m512 _mm512_loadu_ps(const void* from) {
  __m512 out;
  std::memcpy(out.lane, from, sizeof(out.lane));
  return out;
}
inline __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* from) {
  const float* values = static_cast<const float*>(from);
  return emulation::floats([&](int i) { return (mask >> i & 1) != 0 ? values[i] : 0.0f; });
}
inline void _mm512_storeu_ps(void* to, __m512 a) { std::memcpy(to, a.lane, sizeof(a.lane)); }
inline void _mm512_mask_storeu_ps(void* to, __mmask16 mask, __m512 a) {
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) static_cast<float*>(to)[i] = a.lane[i];
  }
}
inline __m512 _mm512_add_ps(__m512 a, __m512 b) {
  return emulation::floats([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline __m512 _mm512_sub_ps(__m512 a, __m512 b) {
  return emulation::floats([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline __m512 _mm512_mul_ps(__m512 a, __m512 b) {
  return emulation::floats([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline __m512 _mm512_div_ps(__m512 a, __m512 b) {
  return emulation::floats([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return emulation::floats([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
inline __m512 _mm512_max_ps(__m512 a, __m512 b) {
  return emulation::floats([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline __m512 _mm512_min_ps(__m512 a, __m512 b) {
  return emulation::floats([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// To the nearest bfloat16, ties to even. Subnormal floats become zero, NaNs quiet.
inline __m256bh _mm512_cvtneps_pbh(__m512 a) {
  __m256bh out;
  for (int i = 0; i < 16; ++i) {
    const auto bits = emulation::reinterpret<uint32_t>(a.lane[i]);
    const bool is_subnormal = (bits & 0x7f800000) == 0;
    out.lane[i] = static_cast<uint16_t>(std::isnan(a.lane[i]) ? bits >> 16 | 0x40
                                        : is_subnormal        ? bits >> 16 & 0x8000
                                                              : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  return out;
}
// Each lane: sum + the product of the odd numbers, then + that of the even ones.
inline __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
  const auto value = [](uint16_t bits) { return emulation::reinterpret<float>(uint32_t{bits} << 16); };
  return emulation::floats([&](int i) {
    const float odd = std::fma(value(a.lane[2 * i + 1]), value(b.lane[2 * i + 1]), sum.lane[i]);
    return std::fma(value(a.lane[2 * i]), value(b.lane[2 * i]), odd);
  });
}
inline __m512 _mm512_castsi512_ps(__m512i a) { return emulation::reinterpret<__m512>(a); }
inline __m512i _mm512_castps_si512(__m512 a) { return emulation::reinterpret<__m512i>(a); }
template <int kPredicate>
inline __mmask16 emulated_cmp_ps_mask(__m512 a, __m512 b) {
  static_assert(kPredicate == _CMP_NLT_UQ);
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= (a.lane[i] < b.lane[i] ? 0u : 1u) << i;
  return static_cast<__mmask16>(mask);
}
#define _mm512_cmp_ps_mask(a, b, predicate) emulated_cmp_ps_mask<predicate>(a, b)
inline __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 a) {
  return emulation::floats([&](int i) { return (mask >> i & 1) != 0 ? a.lane[i] : 0.0f; });
}

inline __m256i _mm256_loadu_si256(const __m256i* from) {
  __m256i out;
  std::memcpy(out.lane, from, sizeof(out.lane));
  return out;
}
inline void _mm_storeu_si128(__m128i* to, __m128i a) { std::memcpy(to, a.lane, sizeof(a.lane)); }
inline __m512 _mm512_cvtph_ps(__m256i a) {
  return emulation::floats([&](int i) { return emulation::half_to_float(a.lane[i]); });
}
inline __m512i _mm512_loadu_si512(const void* from) {
  __m512i out;
  std::memcpy(out.lane, from, sizeof(out.lane));
  return out;
}
inline void _mm512_storeu_si512(void* to, __m512i a) { std::memcpy(to, a.lane, sizeof(a.lane)); }
inline __m512i _mm512_set1_epi32(int32_t a) {
  return emulation::ints([&](int) { return a; });
}
inline __m512i _mm512_setzero_si512() { return _mm512_set1_epi32(0); }
inline __m512i _mm512_set1_epi8(char a) {
  return _mm512_set1_epi32(static_cast<int32_t>(0x01010101u * static_cast<uint8_t>(a)));
}
inline __m512i _mm512_add_epi32(__m512i a, __m512i b) {
  return emulation::ints(
      [&](int i) { return static_cast<uint32_t>(a.lane[i]) + static_cast<uint32_t>(b.lane[i]); });
}
inline __m512i _mm512_sub_epi32(__m512i a, __m512i b) {
  return emulation::ints(
      [&](int i) { return static_cast<uint32_t>(a.lane[i]) - static_cast<uint32_t>(b.lane[i]); });
}
inline __m512i _mm512_and_si512(__m512i a, __m512i b) {
  return emulation::ints([&](int i) { return a.lane[i] & b.lane[i]; });
}
inline __m512i _mm512_or_si512(__m512i a, __m512i b) {
  return emulation::ints([&](int i) { return a.lane[i] | b.lane[i]; });
}
inline __m512i _mm512_xor_si512(__m512i a, __m512i b) {
  return emulation::ints([&](int i) { return a.lane[i] ^ b.lane[i]; });
}
inline __m512i _mm512_max_epi32(__m512i a, __m512i b) {
  return emulation::ints([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline __m512i _mm512_srli_epi32(__m512i a, unsigned bits) {
  return emulation::ints([&](int i) { return static_cast<uint32_t>(a.lane[i]) >> bits; });
}
inline __m512i _mm512_slli_epi32(__m512i a, unsigned bits) {
  return emulation::ints([&](int i) { return static_cast<uint32_t>(a.lane[i]) << bits; });
}
inline __m512i _mm512_srai_epi32(__m512i a, unsigned bits) {
  return emulation::ints([&](int i) { return a.lane[i] >> bits; });
}
inline __m512i _mm512_srli_epi16(__m512i a, unsigned bits) {
  return emulation::words(a, [&](uint16_t word) { return word >> bits; });
}
inline __m512i _mm512_slli_epi16(__m512i a, unsigned bits) {
  return emulation::words(a, [&](uint16_t word) { return word << bits; });
}
inline __m512i _mm512_srai_epi16(__m512i a, unsigned bits) {
  return emulation::words(a, [&](uint16_t word) { return static_cast<int16_t>(word) >> bits; });
}
inline __m512 _mm512_cvtepi32_ps(__m512i a) {
  return emulation::floats([&](int i) { return static_cast<float>(a.lane[i]); });
}
inline __m512i _mm512_cvtps_epi32(__m512 a) {
  return emulation::ints([&](int i) { return std::lrint(a.lane[i]); });
}
inline __m128i _mm512_cvtepi32_epi8(__m512i a) {
  __m128i out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<int8_t>(a.lane[i]);
  return out;
}
// Each lane: sum + two products of signed 16-bit halves.
inline __m512i _mm512_dpwssd_epi32(__m512i sum, __m512i a, __m512i b) {
  return emulation::ints([&](int i) {
    int64_t total = sum.lane[i];
    for (int half = 0; half < 2; ++half) {
      const auto left = static_cast<int16_t>(static_cast<uint32_t>(a.lane[i]) >> (16 * half));
      const auto right = static_cast<int16_t>(static_cast<uint32_t>(b.lane[i]) >> (16 * half));
      total += left * right;
    }
    return total;
  });
}
inline __m128i _mm_loadu_si128(const __m128i* from) {
  __m128i out;
  std::memcpy(out.lane, from, sizeof(out.lane));
  return out;
}
// The same sixteen bytes in each quarter.
inline __m512i _mm512_broadcast_i32x4(__m128i a) {
  __m512i out;
  for (size_t i = 0; i < 4; ++i)
    std::memcpy(reinterpret_cast<char*>(out.lane) + 16 * i, a.lane, sizeof(a.lane));
  return out;
}
// Bytes of each quarter of `a`, picked by the low four bits of those of `places`; zero where the top bit is
// set.
inline __m512i _mm512_shuffle_epi8(__m512i a, __m512i places) {
  uint8_t from[64], place[64], to[64];
  std::memcpy(from, a.lane, sizeof(from));
  std::memcpy(place, places.lane, sizeof(place));
  for (int i = 0; i < 64; ++i) to[i] = (place[i] & 0x80) != 0 ? 0 : from[i / 16 * 16 + (place[i] & 15)];
  __m512i out;
  std::memcpy(out.lane, to, sizeof(to));
  return out;
}
enum _MM_PERM_ENUM : int {};
// Quarters 0 and 1 of the result are those of `a` that two bits each of `places` name, 2 and 3 those of `b`.
// Words of `num_lanes` lanes from the low or high half of each quad, by turns from a and b.
inline __m512i unpack(__m512i a, __m512i b, int num_lanes, bool is_high) {
  __m512i out;
  for (int i = 0; i < 16; ++i) {
    const int word = (i % 4) / num_lanes;
    const int lane = i - i % 4 + (is_high ? 2 : 0) + (word / 2) * num_lanes + i % num_lanes;
    out.lane[i] = word % 2 == 0 ? a.lane[lane] : b.lane[lane];
  }
  return out;
}
inline __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) { return unpack(a, b, 1, false); }
inline __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) { return unpack(a, b, 1, true); }
inline __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) { return unpack(a, b, 2, false); }
inline __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) { return unpack(a, b, 2, true); }
inline __m512i _mm512_shuffle_i64x2(__m512i a, __m512i b, int places) {
  return emulation::ints([&](int i) {
    const __m512i& from = i < 8 ? a : b;
    return from.lane[(places >> i / 4 * 2 & 3) * 4 + i % 4];
  });
}
// Within each quarter, lane i is the one that the i-th two bits of `places` name.
inline __m512i _mm512_shuffle_epi32(__m512i a, _MM_PERM_ENUM places) {
  return emulation::ints([&](int i) { return a.lane[i / 4 * 4 + (places >> i % 4 * 2 & 3)]; });
}
inline int32_t _mm512_cvtsi512_si32(__m512i a) { return a.lane[0]; }
// Each lane: sum + four products of unsigned bytes of a and signed bytes of b.
inline __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
  return emulation::ints([&](int i) {
    int64_t total = sum.lane[i];
    for (int byte = 0; byte < 4; ++byte) {
      const auto left = static_cast<uint8_t>(static_cast<uint32_t>(a.lane[i]) >> (8 * byte));
      const auto right = static_cast<int8_t>(static_cast<uint32_t>(b.lane[i]) >> (8 * byte));
      total += left * right;
    }
    return total;
  });
}
