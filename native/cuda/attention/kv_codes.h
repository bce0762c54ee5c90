// Numbers as codes of 8 bits with a common scale, as kv_append writes them: value = scale * code.
#pragma once

#include <cstdint>

namespace autoglm::cuda {

inline constexpr float kLargestInt8 = 127;
inline constexpr float kLargestE4m3 = 448;

// The e4m3 number nearest to the float with these bits, ties to even; what is beyond becomes +-448. Not for
// NaN.
constexpr uint8_t e4m3_of_bits(uint32_t bits) {
  constexpr uint32_t kLargestCode = 0x7e;
  constexpr int kDropped = 20;                  // bits of a float's mantissa
  constexpr uint32_t kRebias = (127 - 7) << 3;  // of exponents, where e4m3 has its own
  constexpr uint32_t kSmallestNormal = (127 - 6) << 23;
  const uint32_t sign = bits >> 24 & 0x80;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t code = 0;
  if (magnitude >= kSmallestNormal) {
    code = ((magnitude + 0x7ffff + (magnitude >> kDropped & 1)) >> kDropped) - kRebias;
  } else {
    // Multiples of 2^-9: the mantissa, leading one included, moved to where 2^-9 is one.
    const int shift = 127 - 9 + 23 - static_cast<int>(magnitude >> 23);
    if (shift <= 24) {
      const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
      const uint32_t half = uint32_t{1} << (shift - 1);
      code = (mantissa + half - 1 + (mantissa >> shift & 1)) >> shift;
    }
  }
  return static_cast<uint8_t>(sign | (code < kLargestCode ? code : kLargestCode));
}

}  // namespace autoglm::cuda
