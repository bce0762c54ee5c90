#include "quant/pack_panel.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "quant/stored_blocks.h"

namespace autoglm {
namespace {

constexpr int64_t kLineBytes = kPanelRows * 4;  // four bytes of each lane
constexpr int64_t kQ4Bytes = 512;               // nibbles of a group
constexpr int64_t kQ6Bytes = 768;
constexpr int64_t kQ8Bytes = 1024;
constexpr float kLargestHalf = 32768;  // a power of two, well below the largest half

int64_t scale_bytes(ScaleType type) { return type == ScaleType::f16 ? 2 : 4; }

// `index` counts scales from the start of the group's scales.
void store_scale(ScaleType type, std::byte* scales, int64_t index, float value) {
  if (type == ScaleType::f32) {
    std::memcpy(scales + index * 4, &value, 4);
  } else {
    const uint16_t half = float_to_half(value);
    std::memcpy(scales + index * 2, &half, 2);
  }
}

void store_u32(std::byte* to, uint32_t value) { std::memcpy(to, &value, sizeof(value)); }

// Octet o of a group: weights 8 o .. 8 o + 3 in low, 8 o + 4 .. 8 o + 7 in high nibbles.
void store_nibbles(std::byte* group, int64_t lane, const Nibbles32& nibbles) {
  const uint64_t octets[4] = {nibbles.low[0], nibbles.low[1], nibbles.high[0], nibbles.high[1]};
  for (int octet = 0; octet < 4; ++octet) {
    const uint64_t each = octets[octet];
    store_u32(group + octet * kLineBytes + lane * 4, static_cast<uint32_t>(each | each >> 28));
  }
}

void pack_q4_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, std::byte* panel) {
  const int64_t step = panel_bytes(matrix.format, kGroup);
  const ScaleType type = matrix.format.scale_type;
  const bool has_min = matrix.format.has_min;
  const std::byte* block = row.data;
  for (int64_t group = 0; group < matrix.k / kGroup; ++group, panel += step, block += has_min ? 20 : 18) {
    store_nibbles(panel, lane, split_nibbles(block + (has_min ? 4 : 2)));
    // The stored halves are copied as they are.
    std::memcpy(panel + kQ4Bytes + lane * scale_bytes(type), block, 2);
    if (has_min) std::memcpy(panel + kQ4Bytes + (kPanelRows + lane) * scale_bytes(type), block + 2, 2);
  }
}

void pack_q4_k_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, float inverse,
                   std::byte* panel) {
  const int64_t step = panel_bytes(matrix.format, kGroup);
  const ScaleType type = matrix.format.scale_type;
  for (int64_t group = 0; group < matrix.k / kGroup; ++group, panel += step) {
    const std::byte* block = row.data + group / 8 * 144;
    const int sub_group = static_cast<int>(group % 8);
    store_nibbles(panel, lane, half_nibbles(block + kQ4KNibbles + sub_group / 2 * 32, sub_group % 2 * 4));
    const SubScale sub = q4_k_sub_scale(block + kQ4KSubScales, sub_group);
    const float scale = half_to_float(load_u16(block)) * inverse;
    const float min = half_to_float(load_u16(block + 2)) * inverse;
    store_scale(type, panel + kQ4Bytes, lane, scale * sub.scale);
    store_scale(type, panel + kQ4Bytes, kPanelRows + lane, -(min * sub.min));
  }
}

void pack_q8_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, std::byte* panel) {
  const int64_t step = panel_bytes(matrix.format, kGroup);
  const std::byte* block = row.data;
  for (int64_t group = 0; group < matrix.k / kGroup; ++group, panel += step, block += 34) {
    for (int quad = 0; quad < 8; ++quad)
      std::memcpy(panel + quad * kLineBytes + lane * 4, block + 2 + quad * 4, 4);
    std::memcpy(panel + kQ8Bytes + lane * 2, block, 2);
  }
}

void pack_q6_k_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, float inverse,
                   std::byte* panel) {
  const int64_t step = panel_bytes(matrix.format, kGroup);
  const ScaleType type = matrix.format.scale_type;
  uint8_t weights[32];
  for (int64_t group = 0; group < matrix.k / kGroup; ++group, panel += step) {
    const std::byte* block = row.data + group / 8 * 210;
    const int sub_group = static_cast<int>(group % 8);
    q6_k_weights(block, sub_group, weights);
    Nibbles32 nibbles;
    std::memcpy(&nibbles, weights, sizeof(nibbles));
    for (int half = 0; half < 2; ++half) {
      uint32_t high = 0;
      for (int quad = 0; quad < 4; ++quad) {
        uint32_t four;
        std::memcpy(&four, weights + half * 16 + quad * 4, 4);
        high |= (four >> 4 & 0x03030303) << (2 * quad);
      }
      store_u32(panel + kQ4Bytes + half * kLineBytes + lane * 4, high);
      const float scale = half_to_float(load_u16(block + kQ6KScale)) * inverse;
      const auto sub_scale = static_cast<int8_t>(block[kQ6KScales + sub_group * 2 + half]);
      store_scale(type, panel + kQ6Bytes, half * kPanelRows + lane, scale * sub_scale);
    }
    for (int i = 0; i < 2; ++i) {
      nibbles.low[i] &= kNibbleMask;
      nibbles.high[i] &= kNibbleMask;
    }
    store_nibbles(panel, lane, nibbles);
  }
}

// 16-bit elements at [column][lane], or for bf16 at [column / 2][lane][column % 2].
void pack_float_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, std::byte* panel) {
  const std::byte* from = row.data;
  for (int64_t col = 0; col < matrix.k; ++col, from += row.element_stride) {
    switch (matrix.format.layout) {
      case ComputeLayout::f32:
        std::memcpy(panel + (col * kPanelRows + lane) * 4, from, 4);
        break;
      case ComputeLayout::f16:
        std::memcpy(panel + (col * kPanelRows + lane) * 2, from, 2);
        break;
      default:
        std::memcpy(panel + ((col / 2 * kPanelRows + lane) * 2 + col % 2) * 2, from, 2);
        break;
    }
  }
}

// The largest product of a block's scale and a sub-block's that the panel may hold.
float largest_scale(const PackedMatrix& matrix, const PackedRow& row) {
  float largest = 0;
  for (int64_t block = 0; block < matrix.k / 256; ++block) {
    if (row.format == StoredFormat::q4_k) {
      const std::byte* from = row.data + block * 144;
      const float scale = std::fabs(half_to_float(load_u16(from)));
      const float min = std::fabs(half_to_float(load_u16(from + 2)));
      largest = std::max({largest, scale * 63, min * 63});
    } else if (row.format == StoredFormat::q6_k) {
      const std::byte* from = row.data + block * 210;
      largest = std::max(largest, std::fabs(half_to_float(load_u16(from + kQ6KScale))) * 128);
    }
  }
  return largest;
}

// A power of two that brings the panel's largest scale to the upper end of a half; 1 where scales are kept as
// stored.
float choose_factor(const PackedMatrix& matrix, const PackedRow (&rows)[kPanelRows]) {
  if (matrix.format.scale_type == ScaleType::f32) return 1;
  float largest = 0;
  for (const PackedRow& row : rows) {
    if (row.data != nullptr) largest = std::max(largest, largest_scale(matrix, row));
  }
  if (!(largest > 0) || !std::isfinite(largest)) return 1;
  int exponent = 0;
  (void)std::frexp(largest / kLargestHalf, &exponent);
  return std::ldexp(1.0f, exponent);
}

}  // namespace

void pack_panel(PackedMatrix& matrix, int64_t panel, const PackedRow (&rows)[kPanelRows]) {
  const int64_t bytes = panel_bytes(matrix.format, matrix.k);
  std::byte* to = matrix.panels + panel * bytes;
  const float factor = choose_factor(matrix, rows);
  matrix.panel_factors[panel] = factor;
  const bool is_padded = matrix.format.layout == ComputeLayout::bf16 && matrix.k % 2 != 0;
  if (rows[kPanelRows - 1].data == nullptr || is_padded) std::memset(to, 0, bytes);
  for (int64_t lane = 0; lane < kPanelRows; ++lane) {
    const PackedRow& row = rows[lane];
    if (row.data == nullptr) continue;
    switch (row.format) {
      case StoredFormat::f32:
      case StoredFormat::f16:
      case StoredFormat::bf16:
        pack_float_row(matrix, row, lane, to);
        break;
      case StoredFormat::q4_0:
      case StoredFormat::q4_1:
        pack_q4_row(matrix, row, lane, to);
        break;
      case StoredFormat::q8_0:
        pack_q8_row(matrix, row, lane, to);
        break;
      case StoredFormat::q4_k:
        pack_q4_k_row(matrix, row, lane, 1 / factor, to);
        break;
      case StoredFormat::q6_k:
        pack_q6_k_row(matrix, row, lane, 1 / factor, to);
        break;
    }
  }
}

void dequantize_block(StoredFormat format, const std::byte* block, float* out) {
  const float scale = half_to_float(load_u16(block));
  const auto byte = [&](int64_t i) { return static_cast<int>(block[i]); };
  switch (format) {
    case StoredFormat::f32:
      std::memcpy(out, block, 4);
      return;
    case StoredFormat::f16:
      *out = scale;
      return;
    case StoredFormat::bf16:
      *out = bf16_to_float(load_u16(block));
      return;
    case StoredFormat::q4_0:
      for (int i = 0; i < 32; ++i)
        out[i] = scale * static_cast<float>((byte(2 + i % 16) >> i / 16 * 4 & 15) - 8);
      return;
    case StoredFormat::q4_1: {
      const float min = half_to_float(load_u16(block + 2));
      for (int i = 0; i < 32; ++i)
        out[i] = scale * static_cast<float>(byte(4 + i % 16) >> i / 16 * 4 & 15) + min;
      return;
    }
    case StoredFormat::q8_0:
      for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
      return;
    case StoredFormat::q4_k: {
      const float min = half_to_float(load_u16(block + 2));
      for (int i = 0; i < 256; ++i) {
        const SubScale sub = q4_k_sub_scale(block + kQ4KSubScales, i / 32);
        const int q = byte(kQ4KNibbles + i / 64 * 32 + i % 32) >> i / 32 % 2 * 4 & 15;
        out[i] = scale * sub.scale * static_cast<float>(q) - min * sub.min;
      }
      return;
    }
    case StoredFormat::q6_k: {
      const float block_scale = half_to_float(load_u16(block + kQ6KScale));
      uint8_t weights[32];
      for (int i = 0; i < 256; ++i) {
        if (i % 32 == 0) q6_k_weights(block, i / 32, weights);
        const auto sub_scale = static_cast<int8_t>(block[kQ6KScales + i / 16]);
        out[i] = block_scale * sub_scale * static_cast<float>(weights[i % 32] - 32);
      }
      return;
    }
  }
}

}  // namespace autoglm
