// Vector operations in plain C++, the reference of simd_avx2.h and simd_avx512.h: the same names and
// meanings, one loop each. `max` and `min` return the second operand when either is NaN, as the processor's
// do.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace autoglm::cpu {
namespace {  // one definition per including file: code for one instruction set must not leak into another's

struct Plain {
  static constexpr int kWidth = 8;
  struct Float {
    float lane[kWidth];
  };
  struct Int {
    int32_t lane[kWidth];
  };

  template <typename Function>
  static Float make(Function&& function) {
    Float out;
    for (int i = 0; i < kWidth; ++i) out.lane[i] = function(i);
    return out;
  }
  template <typename Function>
  static Int make_int(Function&& function) {
    Int out;
    for (int i = 0; i < kWidth; ++i) out.lane[i] = function(i);
    return out;
  }

  static Float broadcast(float value) {
    return make([&](int) { return value; });
  }
  static Float zero() { return broadcast(0); }
  static Float load(const float* from) {
    return make([&](int i) { return from[i]; });
  }
  // Lanes from `count` on are zero and not read.
  static Float load_first(const float* from, int count) {
    return make([&](int i) { return i < count ? from[i] : 0.0f; });
  }
  static void store(float* to, Float value) { std::memcpy(to, value.lane, sizeof(value.lane)); }
  static void store_first(float* to, Float value, int count) {
    std::memcpy(to, value.lane, count * sizeof(float));
  }

  static Float add(Float a, Float b) {
    return make([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Float sub(Float a, Float b) {
    return make([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static Float mul(Float a, Float b) {
    return make([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static Float div(Float a, Float b) {
    return make([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  // a * b + c; two roundings here, one in the others.
  static Float fma(Float a, Float b, Float c) {
    return make([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static Float max(Float a, Float b) {
    return make([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Float min(Float a, Float b) {
    return make([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Float abs(Float a) {
    return make([&](int i) { return std::fabs(a.lane[i]); });
  }
  static Float copy_sign(Float magnitude, Float sign) {
    return make([&](int i) { return std::copysign(magnitude.lane[i], sign.lane[i]); });
  }
  // value where x >= limit, else 0.
  static Float zero_below(Float value, Float x, Float limit) {
    return make([&](int i) { return x.lane[i] < limit.lane[i] ? 0.0f : value.lane[i]; });
  }
  static float reduce_add(Float a) {
    return ((a.lane[0] + a.lane[4]) + (a.lane[2] + a.lane[6])) +
           ((a.lane[1] + a.lane[5]) + (a.lane[3] + a.lane[7]));
  }
  static float reduce_max(Float a) {
    float most = a.lane[0];
    for (int i = 1; i < kWidth; ++i) most = most > a.lane[i] ? most : a.lane[i];
    return most;
  }

  // kWidth halves.
  static Float load_half(const uint16_t* from) {
    return make([&](int i) { return half_to_float(from[i]); });
  }
  // 2 * kWidth bfloat16: the even and the odd ones.
  static void load_bf16_pairs(const uint16_t* from, Float& even, Float& odd) {
    even = make([&](int i) { return bits_to_float(uint32_t{from[2 * i]} << 16); });
    odd = make([&](int i) { return bits_to_float(uint32_t{from[2 * i + 1]} << 16); });
  }

  static Int load_int(const void* from) {
    Int out;
    std::memcpy(out.lane, from, sizeof(out.lane));
    return out;
  }
  static Int broadcast_int(int32_t value) {
    return make_int([&](int) { return value; });
  }
  static Int add_int(Int a, Int b) {
    return make_int([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Int sub_int(Int a, Int b) {
    return make_int([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static Int and_int(Int a, Int b) {
    return make_int([&](int i) { return a.lane[i] & b.lane[i]; });
  }
  static Int or_int(Int a, Int b) {
    return make_int([&](int i) { return a.lane[i] | b.lane[i]; });
  }
  // Logical shifts.
  template <int kBits>
  static Int shift_right(Int a) {
    return make_int([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) >> kBits); });
  }
  template <int kBits>
  static Int shift_left(Int a) {
    return make_int([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) << kBits); });
  }
  template <int kBits>
  static Int shift_right_signed(Int a) {
    return make_int([&](int i) { return a.lane[i] >> kBits; });
  }
  static Float to_float(Int a) {
    return make([&](int i) { return static_cast<float>(a.lane[i]); });
  }
  // Nearest, ties to even; any value for what does not fit.
  static Int to_int(Float a) {
    return make_int([&](int i) { return static_cast<int32_t>(std::lrintf(a.lane[i])); });
  }
  static Int bits_of(Float a) { return load_int(a.lane); }
  static Float from_bits(Int a) {
    Float out;
    std::memcpy(out.lane, a.lane, sizeof(out.lane));
    return out;
  }
  static int32_t reduce_add_int(Int a) {
    int32_t sum = 0;
    for (int i = 0; i < kWidth; ++i) sum += a.lane[i];
    return sum;
  }
  static int32_t reduce_max_int(Int a) {
    int32_t most = a.lane[0];
    for (int i = 1; i < kWidth; ++i) most = most > a.lane[i] ? most : a.lane[i];
    return most;
  }
  static Int max_int(Int a, Int b) {
    return make_int([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // The low bytes of 32 lanes.
  static void store_int8x32(int8_t* to, const Int (&values)[32 / kWidth]) {
    for (int i = 0; i < 32; ++i) to[i] = static_cast<int8_t>(values[i / kWidth].lane[i % kWidth]);
  }

 private:
  static float bits_to_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  static float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t{half & 0x8000u} << 16;
    const uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00) return bits_to_float(sign | 0x7f800000 | magnitude << 13);
    // The exponent is rebased by an exact multiplication, which also normalises subnormals.
    const float scaled = bits_to_float(magnitude << 13) * 0x1p112f;
    return sign != 0 ? -scaled : scaled;
  }
};

}  // namespace
}  // namespace autoglm::cpu
