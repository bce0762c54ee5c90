// The operations of simd_plain.h on 16 lanes, for AVX-512 F, BW, VL, DQ and VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace autoglm::cpu {
namespace {

struct Avx512 {
  static constexpr int kWidth = 16;
  using Float = __m512;
  using Int = __m512i;

  static Float broadcast(float value) { return _mm512_set1_ps(value); }
  static Float zero() { return _mm512_setzero_ps(); }
  static Float load(const float* from) { return _mm512_loadu_ps(from); }
  static Float load_first(const float* from, int count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), from);
  }
  static void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
  static void store_first(float* to, Float value, int count) {
    _mm512_mask_storeu_ps(to, first_lanes(count), value);
  }

  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float abs(Float a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
  }
  static Float copy_sign(Float magnitude, Float sign) {
    const __m512i sign_bit = _mm512_and_si512(_mm512_castps_si512(sign), _mm512_set1_epi32(INT32_MIN));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(abs(magnitude)), sign_bit));
  }
  static Float zero_below(Float value, Float x, Float limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
  }
  // Both halves are added first, then as in Avx2.
  static float reduce_add(Float a) {
    return __builtin_bit_cast(float, reduce(bits_of(a), [](Int low, Int high) {
                                return bits_of(add(from_bits(low), from_bits(high)));
                              }));
  }
  static void reduce_add_each(const Float (&in)[4], float (&out)[4]) {
    const Float first = add_halves(in[0], in[1]);   // in each quad: two sums of in[0] and in[1] by turns
    const Float second = add_halves(in[2], in[3]);  // of in[2] and in[3]
    Float sums = add(from_bits(_mm512_unpacklo_epi64(bits_of(first), bits_of(second))),
                     from_bits(_mm512_unpackhi_epi64(bits_of(first), bits_of(second))));
    sums = add(sums, from_bits(_mm512_shuffle_i64x2(bits_of(sums), bits_of(sums), 0x4e)));
    sums = add(sums, from_bits(_mm512_shuffle_i64x2(bits_of(sums), bits_of(sums), 0xb1)));
    _mm512_mask_storeu_ps(out, first_lanes(4), sums);
  }
  static float reduce_max(Float a) {
    return __builtin_bit_cast(float, reduce(bits_of(a), [](Int low, Int high) {
                                return bits_of(max(from_bits(low), from_bits(high)));
                              }));
  }

  static Float load_half(const uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static void load_bf16_pairs(const uint16_t* from, Float& even, Float& odd) {
    const __m512i pairs = load_int(from);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static Int load_int(const void* from) { return _mm512_loadu_si512(from); }
  static void store_int(int32_t* to, Int value) { _mm512_storeu_si512(to, value); }
  static Int broadcast_int(int32_t value) { return _mm512_set1_epi32(value); }
  static Int add_int(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int sub_int(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Int and_int(Int a, Int b) { return _mm512_and_si512(a, b); }
  static Int or_int(Int a, Int b) { return _mm512_or_si512(a, b); }
  template <int kBits>
  static Int shift_right(Int a) {
    return _mm512_srli_epi32(a, kBits);
  }
  template <int kBits>
  static Int shift_left(Int a) {
    return _mm512_slli_epi32(a, kBits);
  }
  template <int kBits>
  static Int shift_right_signed(Int a) {
    return _mm512_srai_epi32(a, kBits);
  }
  static void split_bytes(Int quads, Int& even, Int& odd) {
    even = _mm512_srai_epi16(_mm512_slli_epi16(quads, 8), 8);
    odd = _mm512_srai_epi16(quads, 8);
  }
  static Int dot_pairs(Int a, Int b, Int sum) { return _mm512_dpwssd_epi32(sum, a, b); }
  using Table = __m512i;
  static Table load_table(const int8_t* from) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Int look_up(Table table, Int places) { return _mm512_shuffle_epi8(table, places); }
  static Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static Int to_int(Float a) { return _mm512_cvtps_epi32(a); }
  static Int bits_of(Float a) { return _mm512_castps_si512(a); }
  static Float from_bits(Int a) { return _mm512_castsi512_ps(a); }
  static int32_t reduce_add_int(Int a) { return reduce(a, add_int); }
  static int32_t reduce_max_int(Int a) { return reduce(a, max_int); }
  static Int max_int(Int a, Int b) { return _mm512_max_epi32(a, b); }
  static void store_int8x32(int8_t* to, const Int (&values)[2]) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(values[0]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), _mm512_cvtepi32_epi8(values[1]));
  }

 private:
  static Float add_halves(Float a, Float b) {
    return add(from_bits(_mm512_unpacklo_epi32(bits_of(a), bits_of(b))),
               from_bits(_mm512_unpackhi_epi32(bits_of(a), bits_of(b))));
  }
  // Lane i with lane i + 8, then i + 4, 2 and 1. Through memory it would wait for the store each time.
  template <typename Combine>
  static int32_t reduce(Int a, Combine&& combine) {
    a = combine(a, _mm512_shuffle_i64x2(a, a, 0x4e));
    a = combine(a, _mm512_shuffle_i64x2(a, a, 0xb1));
    a = combine(a, _mm512_shuffle_epi32(a, static_cast<_MM_PERM_ENUM>(0x4e)));
    return _mm512_cvtsi512_si32(combine(a, _mm512_shuffle_epi32(a, static_cast<_MM_PERM_ENUM>(0xb1))));
  }
  static __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>((1u << (count < 16 ? count : 16)) - 1);
  }
};

}  // namespace
}  // namespace autoglm::cpu
