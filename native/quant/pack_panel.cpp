#include "quant/pack_panel.h"

#include <algorithm>
#include <cmath>

#include "quant/stored_blocks.h"

namespace autoglm {
namespace {

constexpr int64_t kLineBytes = kPanelRows * 4;  // four bytes of each lane
constexpr float kLargestHalf = 32768;           // a power of two, well below the largest half
constexpr int kMinFactorExponent = -100;        // 1 / factor stays finite

uint32_t quad_at(const GroupCodes& group, int64_t quad) {
  uint32_t four;
  std::memcpy(&four, group.codes + quad * 4, sizeof(four));
  return four;
}

void store_u32(std::byte* to, uint32_t value) { std::memcpy(to, &value, sizeof(value)); }

// Octet o of a group: weights 8 o .. 8 o + 3 in low, 8 o + 4 .. 8 o + 7 in high nibbles.
void store_nibbles(const GroupCodes& group, int64_t lane, std::byte* to) {
  constexpr uint32_t kLow = 0x0f0f0f0f;
  for (int64_t octet = 0; octet < 4; ++octet) {
    const uint32_t low = quad_at(group, 2 * octet) & kLow;
    const uint32_t high = quad_at(group, 2 * octet + 1) & kLow;
    store_u32(to + octet * kLineBytes + lane * 4, low | high << 4);
  }
}

// Bits 4 and 5 of each weight.
void store_high_bits(const GroupCodes& group, int64_t lane, std::byte* to) {
  for (int64_t half = 0; half < 2; ++half) {
    uint32_t high = 0;
    for (int64_t quad = 0; quad < 4; ++quad) {
      high |= (quad_at(group, 4 * half + quad) >> 4 & 0x03030303) << (2 * quad);
    }
    store_u32(to + half * kLineBytes + lane * 4, high);
  }
}

void store_bytes(const GroupCodes& group, int64_t lane, std::byte* to) {
  for (int64_t quad = 0; quad < 8; ++quad) store_u32(to + quad * kLineBytes + lane * 4, quad_at(group, quad));
}

void store_scale(ScaleType type, std::byte* scales, int64_t index, float value) {
  if (type == ScaleType::f32) {
    std::memcpy(scales + index * 4, &value, 4);
  } else {
    const uint16_t half = float_to_half(value);
    std::memcpy(scales + index * 2, &half, 2);
  }
}

void store_group(const PackedFormat& format, const GroupCodes& group, int64_t lane, float inverse,
                 std::byte* to) {
  if (format.layout == ComputeLayout::q8) {
    store_bytes(group, lane, to);
  } else {
    store_nibbles(group, lane, to);
    if (format.layout == ComputeLayout::q6) store_high_bits(group, lane, to + 4 * kLineBytes);
  }
  std::byte* scales = to + code_bytes(format.layout);
  for (int64_t part = 0; part < format.scales_per_group; ++part) {
    store_scale(format.scale_type, scales, part * kPanelRows + lane, group.scales[part] * inverse);
    if (!format.has_min) continue;
    const int64_t at = (format.scales_per_group + part) * kPanelRows + lane;
    store_scale(format.scale_type, scales, at, group.mins[part] * inverse);
  }
}

template <typename Visit>
void for_each_group(const PackedRow& row, int64_t num_cols, const Visit& visit) {
  const DecodeGroup decode = row.groups == nullptr ? decode_group_of(row.format) : nullptr;
  GroupCodes codes = {};
  for (int64_t group = 0; group < num_cols / kGroup; ++group) {
    if (decode != nullptr) decode(row.data, group, codes);
    visit(decode != nullptr ? codes : row.groups[group]);
  }
}

void pack_quantized_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, float inverse,
                        std::byte* panel) {
  const int64_t step = panel_bytes(matrix.format, kGroup);
  for_each_group(row, matrix.k, [&](const GroupCodes& codes) {
    store_group(matrix.format, codes, lane, inverse, panel);
    panel += step;
  });
}

// Elements at [column][lane], or for bf16 at [column / 2][lane][column % 2].
void pack_float_row(const PackedMatrix& matrix, const PackedRow& row, int64_t lane, std::byte* panel) {
  const std::byte* from = row.data;
  for (int64_t col = 0; col < matrix.k; ++col, from += row.element_stride) {
    switch (matrix.format.layout) {
      case ComputeLayout::f32: {
        const float value = row.format == StoredFormat::f64 ? load_f64_as_float(from) : load_f32(from);
        std::memcpy(panel + (col * kPanelRows + lane) * 4, &value, 4);
        break;
      }
      case ComputeLayout::f16:
        std::memcpy(panel + (col * kPanelRows + lane) * 2, from, 2);
        break;
      default:
        std::memcpy(panel + ((col / 2 * kPanelRows + lane) * 2 + col % 2) * 2, from, 2);
        break;
    }
  }
}

// The largest scale or min of a row, in magnitude.
float largest_scale(const PackedMatrix& matrix, const PackedRow& row) {
  float largest = 0;
  for_each_group(row, matrix.k, [&](const GroupCodes& codes) {
    for (const float each : {codes.scales[0], codes.scales[1], codes.mins[0], codes.mins[1]}) {
      largest = std::max(largest, std::fabs(each));
    }
  });
  return largest;
}

// A power of two that brings the panel's largest scale to the upper end of a half; 1 where all scales are
// stored as they are in the file.
float choose_factor(const PackedMatrix& matrix, const PackedRow (&rows)[kPanelRows]) {
  if (!matrix.format.is_quantized() || matrix.format.scale_type == ScaleType::f32) return 1;
  const bool is_rounded = std::ranges::any_of(rows, [](const PackedRow& row) {
    return row.groups != nullptr ||
           (row.data != nullptr && info_of(row.format).exact_scales == ScaleType::f32);
  });
  if (!is_rounded) return 1;
  float largest = 0;
  for (const PackedRow& row : rows) {
    if (row.is_present()) largest = std::max(largest, largest_scale(matrix, row));
  }
  if (!(largest > 0) || !std::isfinite(largest)) return 1;
  int exponent = 0;
  (void)std::frexp(largest / kLargestHalf, &exponent);
  return std::ldexp(1.0f, std::max(exponent, kMinFactorExponent));
}

}  // namespace

void pack_panel(PackedMatrix& matrix, int64_t panel, const PackedRow (&rows)[kPanelRows]) {
  const int64_t bytes = panel_bytes(matrix.format, matrix.k);
  std::byte* to = matrix.panels + panel * bytes;
  const float factor = choose_factor(matrix, rows);
  matrix.panel_factors[panel] = factor;
  const bool is_padded = matrix.format.layout == ComputeLayout::bf16 && matrix.k % 2 != 0;
  if (!rows[kPanelRows - 1].is_present() || is_padded) std::memset(to, 0, bytes);
  for (int64_t lane = 0; lane < kPanelRows; ++lane) {
    if (!rows[lane].is_present()) continue;
    if (matrix.format.is_quantized()) {
      pack_quantized_row(matrix, rows[lane], lane, 1 / factor, to);
    } else {
      pack_float_row(matrix, rows[lane], lane, to);
    }
  }
}

}  // namespace autoglm
