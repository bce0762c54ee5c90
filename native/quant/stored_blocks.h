// The stored block formats, one row of blocks at a time: fields as GGUF defines them.
// Source: docs/formats.md; checked bit for bit against the `gguf` package
// (test/fixtures/make_quant_blocks.py).
#pragma once

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
inline uint64_t load_u64(const std::byte* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// A group of 32 weights as unsigned nibbles: byte i of `low` is weight i, of `high` weight i + 16.
struct Nibbles32 {
  uint64_t low[2];
  uint64_t high[2];
};

constexpr uint64_t kNibbleMask = 0x0f0f0f0f0f0f0f0f;

// Q4_0 and Q4_1: byte j holds weights j and j + 16.
inline Nibbles32 split_nibbles(const std::byte* bytes) {
  const uint64_t first = load_u64(bytes);
  const uint64_t second = load_u64(bytes + 8);
  return {{first & kNibbleMask, second & kNibbleMask}, {first >> 4 & kNibbleMask, second >> 4 & kNibbleMask}};
}

// Q4_K: 32 bytes hold two groups, one in all low, one in all high nibbles.
inline Nibbles32 half_nibbles(const std::byte* bytes, int shift) {
  Nibbles32 out;
  for (int i = 0; i < 2; ++i) {
    out.low[i] = load_u64(bytes + 8 * i) >> shift & kNibbleMask;
    out.high[i] = load_u64(bytes + 16 + 8 * i) >> shift & kNibbleMask;
  }
  return out;
}

// The 6-bit scale and min of group 0..7 of a Q4_K block.
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

// Group 0..7 of a Q6_K block as unsigned 6-bit weights, one per byte.
inline void q6_k_weights(const std::byte* block, int group, uint8_t (&out)[32]) {
  const int half = group / 4;
  const int quarter = group % 4;
  const std::byte* low = block + 64 * half + 32 * (quarter & 1);
  const std::byte* high = block + 128 + 32 * half;
  const int low_shift = quarter < 2 ? 0 : 4;
  for (int i = 0; i < 32; ++i) {
    const int nibble = static_cast<int>(low[i]) >> low_shift & 15;
    const int two_bits = static_cast<int>(high[i]) >> (2 * quarter) & 3;
    out[i] = static_cast<uint8_t>(nibble | two_bits << 4);
  }
}

constexpr int kQ6KScales = 192;  // int8 [16], one per 16 weights
constexpr int kQ6KScale = 208;   // half
constexpr int kQ4KSubScales = 4;
constexpr int kQ4KNibbles = 16;

}  // namespace autoglm
