// Vector operations on 4 lanes in plain C++ with the compilers' vector types: the reference of simd_avx2.h
// and simd_avx512.h, with the same names and meanings. `max` and `min` return the second operand when either
// is NaN, as the processor's do.
#pragma once

#include <cstdint>
#include <cstring>

namespace autoglm::cpu {
namespace {  // one definition per including file: code for one instruction set must not leak into another's

struct Plain {
  static constexpr int kWidth = 4;  // what the baselines of x86-64 and ARM64 have
  using Float = float __attribute__((vector_size(16)));
  using Int = int32_t __attribute__((vector_size(16)));
  using Unsigned = uint32_t __attribute__((vector_size(16)));
  using Short = int16_t __attribute__((vector_size(16)));

  static Float broadcast(float value) { return Float{value, value, value, value}; }
  static Float zero() { return Float{}; }
  static Float load(const float* from) {
    Float out;
    std::memcpy(&out, from, sizeof(out));
    return out;
  }
  // Lanes from `count` on are zero and not read.
  static Float load_first(const float* from, int count) {
    Float out = {};
    std::memcpy(&out, from, static_cast<size_t>(count) * sizeof(float));
    return out;
  }
  static void store(float* to, Float value) { std::memcpy(to, &value, sizeof(value)); }
  static void store_first(float* to, Float value, int count) {
    std::memcpy(to, &value, static_cast<size_t>(count) * sizeof(float));
  }

  static Float add(Float a, Float b) { return a + b; }
  static Float sub(Float a, Float b) { return a - b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  // a * b + c; two roundings here, one in the others.
  static Float fma(Float a, Float b, Float c) { return a * b + c; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float abs(Float a) { return from_bits(bits_of(a) & INT32_MAX); }
  static Float copy_sign(Float magnitude, Float sign) {
    return from_bits((bits_of(magnitude) & INT32_MAX) | (bits_of(sign) & INT32_MIN));
  }
  // value where x >= limit, else 0.
  static Float zero_below(Float value, Float x, Float limit) { return x < limit ? Float{} : value; }
  static float reduce_add(Float a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  static void reduce_add_each(const Float (&in)[4], float (&out)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = reduce_add(in[i]);
  }
  static float reduce_max(Float a) {
    const float low = a[0] > a[2] ? a[0] : a[2];
    const float high = a[1] > a[3] ? a[1] : a[3];
    return low > high ? low : high;
  }

  // kWidth halves.
  static Float load_half(const uint16_t* from) {
    const Unsigned half = {from[0], from[1], from[2], from[3]};
    const Unsigned magnitude = half & 0x7fff;
    // The exponent is rebased by an exact multiplication, which also normalises subnormals.
    const Float scaled = from_bits(reinterpret_cast<Int>(magnitude << 13)) * 0x1p112f;
    const Unsigned finite = reinterpret_cast<Unsigned>(bits_of(scaled));
    const Unsigned bits = magnitude >= 0x7c00 ? magnitude << 13 | 0x7f800000u : finite;
    return from_bits(reinterpret_cast<Int>(bits | (half & 0x8000) << 16));
  }
  // 2 * kWidth bfloat16: the even and the odd ones.
  static void load_bf16_pairs(const uint16_t* from, Float& even, Float& odd) {
    const Unsigned even_bits = {from[0], from[2], from[4], from[6]};
    const Unsigned odd_bits = {from[1], from[3], from[5], from[7]};
    even = from_bits(reinterpret_cast<Int>(even_bits << 16));
    odd = from_bits(reinterpret_cast<Int>(odd_bits << 16));
  }

  static Int load_int(const void* from) {
    Int out;
    std::memcpy(&out, from, sizeof(out));
    return out;
  }
  static void store_int(int32_t* to, Int value) { std::memcpy(to, &value, sizeof(value)); }
  static Int broadcast_int(int32_t value) { return Int{value, value, value, value}; }
  static Int add_int(Int a, Int b) {
    return reinterpret_cast<Int>(reinterpret_cast<Unsigned>(a) + reinterpret_cast<Unsigned>(b));
  }
  static Int sub_int(Int a, Int b) {
    return reinterpret_cast<Int>(reinterpret_cast<Unsigned>(a) - reinterpret_cast<Unsigned>(b));
  }
  static Int and_int(Int a, Int b) { return a & b; }
  static Int or_int(Int a, Int b) { return a | b; }
  static Int max_int(Int a, Int b) { return a > b ? a : b; }
  template <int kBits>
  static Int shift_right(Int a) {
    return reinterpret_cast<Int>(reinterpret_cast<Unsigned>(a) >> kBits);
  }
  template <int kBits>
  static Int shift_left(Int a) {
    return reinterpret_cast<Int>(reinterpret_cast<Unsigned>(a) << kBits);
  }
  template <int kBits>
  static Int shift_right_signed(Int a) {
    return a >> kBits;
  }
  // Bytes 0 and 2, and bytes 1 and 3 of every lane, as pairs of 16-bit integers.
  static void split_bytes(Int quads, Int& even, Int& odd) {
    even = reinterpret_cast<Int>((reinterpret_cast<Short>(quads) << 8) >> 8);
    odd = reinterpret_cast<Int>(reinterpret_cast<Short>(quads) >> 8);
  }
  // sum + the products of both pairs of 16-bit integers in every lane.
  static Int dot_pairs(Int a, Int b, Int sum) {
    const Int low = (shift_left<16>(a) >> 16) * (shift_left<16>(b) >> 16);
    return sum + low + (a >> 16) * (b >> 16);
  }
  // Sixteen bytes to look up in.
  using Table = const int8_t*;
  static Table load_table(const int8_t* from) { return from; }
  // Each byte, 0..15, becomes the byte of the table at that place.
  static Int look_up(Table table, Int places) {
    int8_t bytes[4 * kWidth];
    std::memcpy(bytes, &places, sizeof(bytes));
    for (int8_t& each : bytes) each = table[each];
    return load_int(bytes);
  }
  static Float to_float(Int a) { return __builtin_convertvector(a, Float); }
  // Nearest, ties to even, for magnitudes up to 2^22; any value for others. The sum has no fraction bits
  // left.
  static Int to_int(Float a) {
    const Float shift = broadcast(0x1.8p23f);
    return __builtin_convertvector(max((a + shift) - shift, broadcast(-0x1p30f)), Int);
  }
  static Int bits_of(Float a) { return reinterpret_cast<Int>(a); }
  static Float from_bits(Int a) { return reinterpret_cast<Float>(a); }
  static int32_t reduce_add_int(Int a) { return a[0] + a[1] + a[2] + a[3]; }
  static int32_t reduce_max_int(Int a) {
    const int32_t low = a[0] > a[2] ? a[0] : a[2];
    const int32_t high = a[1] > a[3] ? a[1] : a[3];
    return low > high ? low : high;
  }
  // The low bytes of 32 lanes.
  static void store_int8x32(int8_t* to, const Int (&values)[8]) {
    for (int i = 0; i < 32; ++i) to[i] = static_cast<int8_t>(values[i / kWidth][i % kWidth]);
  }
};

}  // namespace
}  // namespace autoglm::cpu
