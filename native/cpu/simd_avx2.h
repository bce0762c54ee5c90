// The operations of simd_plain.h on 8 lanes, for AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace autoglm::cpu {
namespace {

struct Avx2 {
  static constexpr int kWidth = 8;
  using Float = __m256;
  using Int = __m256i;

  static Float broadcast(float value) { return _mm256_set1_ps(value); }
  static Float zero() { return _mm256_setzero_ps(); }
  static Float load(const float* from) { return _mm256_loadu_ps(from); }
  static Float load_first(const float* from, int count) {
    return _mm256_maskload_ps(from, first_lanes(count));
  }
  static void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
  static void store_first(float* to, Float value, int count) {
    _mm256_maskstore_ps(to, first_lanes(count), value);
  }

  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float abs(Float a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static Float copy_sign(Float magnitude, Float sign) {
    return _mm256_or_ps(abs(magnitude), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
  }
  static Float zero_below(Float value, Float x, Float limit) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), value);
  }
  static float reduce_add(Float a) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  }
  static void reduce_add_each(const Float (&in)[4], float (&out)[4]) {
    const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(in[0], in[1]), _mm256_hadd_ps(in[2], in[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
  }
  static float reduce_max(Float a) {
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
  }

  static Float load_half(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void load_bf16_pairs(const uint16_t* from, Float& even, Float& odd) {
    const __m256i pairs = load_int(from);
    even = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static Int load_int(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void store_int(int32_t* to, Int value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
  }
  static Int broadcast_int(int32_t value) { return _mm256_set1_epi32(value); }
  static Int add_int(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int sub_int(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Int and_int(Int a, Int b) { return _mm256_and_si256(a, b); }
  static Int or_int(Int a, Int b) { return _mm256_or_si256(a, b); }
  template <int kBits>
  static Int shift_right(Int a) {
    return _mm256_srli_epi32(a, kBits);
  }
  template <int kBits>
  static Int shift_left(Int a) {
    return _mm256_slli_epi32(a, kBits);
  }
  template <int kBits>
  static Int shift_right_signed(Int a) {
    return _mm256_srai_epi32(a, kBits);
  }
  static void split_bytes(Int quads, Int& even, Int& odd) {
    even = _mm256_srai_epi16(_mm256_slli_epi16(quads, 8), 8);
    odd = _mm256_srai_epi16(quads, 8);
  }
  // Assembly, since GCC 12 regroups sums of intrinsics into trees and then moves them through the stack.
  static Int dot_pairs(Int a, Int b, Int sum) {
    Int product;
    asm("vpmaddwd %[b], %[a], %[product]\n\tvpaddd %[product], %[sum], %[sum]"
        : [sum] "+x"(sum), [product] "=&x"(product)
        : [a] "x"(a), [b] "x"(b));
    return sum;
  }
  using Table = __m256i;
  static Table load_table(const int8_t* from) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Int look_up(Table table, Int places) { return _mm256_shuffle_epi8(table, places); }
  static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static Int to_int(Float a) { return _mm256_cvtps_epi32(a); }
  static Int bits_of(Float a) { return _mm256_castps_si256(a); }
  static Float from_bits(Int a) { return _mm256_castsi256_ps(a); }
  static int32_t reduce_add_int(Int a) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 1)));
  }
  static int32_t reduce_max_int(Int a) {
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    most = _mm_max_epi32(most, _mm_unpackhi_epi64(most, most));
    return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 1)));
  }
  static Int max_int(Int a, Int b) { return _mm256_max_epi32(a, b); }
  static void store_int8x32(int8_t* to, const Int (&values)[4]) {
    const __m256i low = _mm256_packs_epi32(values[0], values[1]);
    const __m256i high = _mm256_packs_epi32(values[2], values[3]);
    // The packs work on halves of a register: undo their interleaving of 4-byte pieces.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
  }

 private:
  static __m256i first_lanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace
}  // namespace autoglm::cpu
