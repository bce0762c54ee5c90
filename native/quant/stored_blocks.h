// Pieces of the stored block formats that more than a field access makes: fields as GGUF defines them.
// Source: docs/formats.md; checked bit for bit against the `gguf` package
// (test/fixtures/make_quant_blocks.py).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace autoglm {

inline uint16_t load_u16(const std::byte* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline uint32_t load_u32(const std::byte* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline float load_f32(const std::byte* from) { return std::bit_cast<float>(load_u32(from)); }
// Rounded to nearest; beyond the range of a float it becomes infinite.
inline float load_f64_as_float(const std::byte* from) {
  double value;
  std::memcpy(&value, from, sizeof(value));
  return static_cast<float>(value);
}

// Half of 2^(exponent - 127), also below the normal floats.
inline float half_of_e8m0(uint8_t exponent) {
  const uint32_t bits = exponent < 2 ? uint32_t{0x00200000} << exponent : (exponent - 1u) << 23;
  return std::bit_cast<float>(bits);
}

// The 6-bit scale and min of group 0..7 of a Q4_K or Q5_K block.
struct SubScale {
  uint8_t scale;
  uint8_t min;
};

inline SubScale q4_k_sub_scale(const std::byte* packed, int group) {
  const auto byte = [&](int i) { return static_cast<uint8_t>(packed[i]); };
  if (group < 4) {
    return {static_cast<uint8_t>(byte(group) & 63), static_cast<uint8_t>(byte(group + 4) & 63)};
  }
  return {static_cast<uint8_t>((byte(group + 4) & 15) | byte(group - 4) >> 6 << 4),
          static_cast<uint8_t>(byte(group + 4) >> 4 | byte(group) >> 6 << 4)};
}

// The signed 6-bit scale of half group 0..15 of a Q3_K block.
inline int q3_k_sub_scale(const std::byte* packed, int half_group) {
  const int low = static_cast<int>(packed[half_group % 8]) >> half_group / 8 * 4 & 15;
  const int high = static_cast<int>(packed[8 + half_group % 4]) >> half_group / 4 * 2 & 3;
  return (low | high << 4) - 32;
}

}  // namespace autoglm
