// The operations of simd_plain.h on 4 lanes, for NEON with the dot products of ARMv8.2. `max`, `min` and the
// reductions are built from comparisons: the instructions of these names treat a NaN differently.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace autoglm::cpu {
namespace {

struct Neon {
  static constexpr int kWidth = 4;
  using Float = float32x4_t;
  using Int = int32x4_t;

  static Float broadcast(float value) { return vdupq_n_f32(value); }
  static Float zero() { return vdupq_n_f32(0); }
  static Float load(const float* from) { return vld1q_f32(from); }
  static Float load_first(const float* from, int count) {
    if (count >= kWidth) return load(from);
    float lanes[kWidth] = {};
    std::memcpy(lanes, from, static_cast<size_t>(count) * sizeof(float));
    return load(lanes);
  }
  static void store(float* to, Float value) { vst1q_f32(to, value); }
  static void store_first(float* to, Float value, int count) {
    if (count >= kWidth) return store(to, value);
    float lanes[kWidth];
    store(lanes, value);
    std::memcpy(to, lanes, static_cast<size_t>(count) * sizeof(float));
  }

  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float div(Float a, Float b) { return vdivq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static Float max(Float a, Float b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Float min(Float a, Float b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static Float abs(Float a) { return vabsq_f32(a); }
  static Float copy_sign(Float magnitude, Float sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
  }
  static Float zero_below(Float value, Float x, Float limit) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), vcltq_f32(x, limit)));
  }
  static float reduce_add(Float a) { return vpadds_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a))); }
  static void reduce_add_each(const Float (&in)[4], float (&out)[4]) {
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(in[0], in[1]), vpaddq_f32(in[2], in[3])));
  }
  static float reduce_max(Float a) {
    const Float pairs = max(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(max(pairs, vdupq_laneq_f32(pairs, 1)), 0);
  }

  static Float load_half(const uint16_t* from) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
  static void load_bf16_pairs(const uint16_t* from, Float& even, Float& odd) {
    const Int pairs = load_int(from);
    even = from_bits(vshlq_n_s32(pairs, 16));
    odd = from_bits(vandq_s32(pairs, vdupq_n_s32(static_cast<int32_t>(0xffff0000u))));
  }

  static Int load_int(const void* from) {
    return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(from)));
  }
  static void store_int(int32_t* to, Int value) { vst1q_s32(to, value); }
  static Int broadcast_int(int32_t value) { return vdupq_n_s32(value); }
  static Int add_int(Int a, Int b) { return vaddq_s32(a, b); }
  static Int sub_int(Int a, Int b) { return vsubq_s32(a, b); }
  static Int and_int(Int a, Int b) { return vandq_s32(a, b); }
  static Int or_int(Int a, Int b) { return vorrq_s32(a, b); }
  static Int max_int(Int a, Int b) { return vmaxq_s32(a, b); }
  template <int kBits>
  static Int shift_right(Int a) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), kBits));
  }
  template <int kBits>
  static Int shift_left(Int a) {
    return vshlq_n_s32(a, kBits);
  }
  template <int kBits>
  static Int shift_right_signed(Int a) {
    return vshrq_n_s32(a, kBits);
  }
  static void split_bytes(Int quads, Int& even, Int& odd) {
    const int16x8_t pairs = vreinterpretq_s16_s32(quads);
    even = vreinterpretq_s32_s16(vshrq_n_s16(vshlq_n_s16(pairs, 8), 8));
    odd = vreinterpretq_s32_s16(vshrq_n_s16(pairs, 8));
  }
  static Int dot_pairs(Int a, Int b, Int sum) {
    const int16x8_t left = vreinterpretq_s16_s32(a);
    const int16x8_t right = vreinterpretq_s16_s32(b);
    const Int low = vmull_s16(vget_low_s16(left), vget_low_s16(right));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(left, right)));
  }
  using Table = int8x16_t;
  static Table load_table(const int8_t* from) { return vld1q_s8(from); }
  static Int look_up(Table table, Int places) {
    return vreinterpretq_s32_s8(vqtbl1q_s8(table, vreinterpretq_u8_s32(places)));
  }
  static Float to_float(Int a) { return vcvtq_f32_s32(a); }
  static Int to_int(Float a) { return vcvtnq_s32_f32(a); }
  static Int bits_of(Float a) { return vreinterpretq_s32_f32(a); }
  static Float from_bits(Int a) { return vreinterpretq_f32_s32(a); }
  static int32_t reduce_add_int(Int a) { return vaddvq_s32(a); }
  static int32_t reduce_max_int(Int a) { return vmaxvq_s32(a); }
  static void store_int8x32(int8_t* to, const Int (&values)[8]) {
    for (int i = 0; i < 4; ++i) {
      const int16x8_t words = vcombine_s16(vmovn_s32(values[2 * i]), vmovn_s32(values[2 * i + 1]));
      vst1_s8(to + 8 * i, vmovn_s16(words));
    }
  }
};

}  // namespace
}  // namespace autoglm::cpu
