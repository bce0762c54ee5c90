// The compute layout of a weight matrix [n out, k in]: what quant/ writes and the kernels read.
//
// Rows are grouped in panels of 32, zero rows filling the last one. Panels follow each other; inside a panel
// the k axis is the outer one, so a kernel reads a panel as one sequential stream. `lane` is the row within
// its panel.
//
//   f32    [k][32 lanes] float
//   f16    [k][32 lanes] half
//   bf16   [ceil(k / 2)][32 lanes][2] bfloat16, the k pair of one lane side by side, zero after an odd k
//   q4     per group of 32 k: [4][2 halves][16 lanes][4 bytes], then scales. Byte j of octet o holds
//          k = 8 o + j in its low and k = 8 o + 4 + j in its high nibble, unsigned; zero is 8.
//   q6     per group of 32 k: the q4 nibbles; then [2 half groups of 16 k][2 halves][16 lanes][4 bytes] whose
//          byte j holds bits 4 and 5 of k = 16 h + 4 i + j in its bits 2 i and 2 i + 1; then scales; zero
//          is 32.
//   q8     per group of 32 k: [8][2 halves][16 lanes][4 bytes] signed, then scales.
//   iq4, e2m1   as q4, but each code is the place of its value in the layout's code book.
//
// Scales of a group are [scales_per_group][32 lanes]: one for the group, or one for each half of it. If
// has_min, as many mins follow in the same order, and weight = code * scale + min; else weight = code_value
// * scale. Scales and mins are halves or floats (ScaleType). Those of panel p are stored divided by
// panel_factors[p], a power of two that keeps products of block and sub-block scales in the range of a half.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/formats.h"

namespace autoglm {

inline constexpr int64_t kPanelRows =
    32;                                // two zmm or four ymm accumulators; one activation group of outputs
inline constexpr int64_t kGroup = 32;  // k per scale, and per scale of the int8 activations

// What is behind the layout matters to quantized ones only.
struct PackedFormat {
  ComputeLayout layout = ComputeLayout::f32;
  ScaleType scale_type = ScaleType::f16;
  int scales_per_group = 1;  // 1 or 2
  bool has_min = false;

  bool operator==(const PackedFormat&) const = default;
  constexpr bool is_quantized() const { return layout >= ComputeLayout::q8; }
};
static_assert(ComputeLayout::q8 < ComputeLayout::q4 && ComputeLayout::bf16 < ComputeLayout::q8);

// The quantized formats that kernels exist for, with scales of either type.
inline constexpr PackedFormat kQuantizedFormats[] = {
    {.layout = ComputeLayout::q8},
    {.layout = ComputeLayout::q8, .has_min = true},
    {.layout = ComputeLayout::q4},
    {.layout = ComputeLayout::q4, .has_min = true},
    {.layout = ComputeLayout::q4, .scales_per_group = 2},
    {.layout = ComputeLayout::q4, .scales_per_group = 2, .has_min = true},
    {.layout = ComputeLayout::q6},
    {.layout = ComputeLayout::q6, .has_min = true},
    {.layout = ComputeLayout::q6, .scales_per_group = 2},
    {.layout = ComputeLayout::iq4},
    {.layout = ComputeLayout::e2m1},
};

constexpr bool is_computable(PackedFormat format) {
  if (!format.is_quantized()) return true;
  format.scale_type = ScaleType::f16;
  for (const PackedFormat& each : kQuantizedFormats) {
    if (each == format) return true;
  }
  return false;
}

// Bytes of the codes of one group of 32 k and 32 lanes, before its scales.
constexpr int64_t code_bytes(ComputeLayout layout) {
  return layout == ComputeLayout::q8 ? 1024 : layout == ComputeLayout::q6 ? 768 : 512;
}

// The code that stands for 0 where there are no mins; 0 also for layouts whose values are signed.
constexpr int zero_code(ComputeLayout layout) {
  return layout == ComputeLayout::q4 ? 8 : layout == ComputeLayout::q6 ? 32 : 0;
}

// The values of the sixteen codes of IQ4_NL and IQ4_XS.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice the values of the sixteen 4-bit floats of MXFP4, which makes them whole.
inline constexpr int8_t kDoubledE2M1Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

constexpr bool has_code_book(ComputeLayout layout) {
  return layout == ComputeLayout::iq4 || layout == ComputeLayout::e2m1;
}
constexpr const int8_t (&code_book(ComputeLayout layout))[16] {
  return layout == ComputeLayout::iq4 ? kIq4Values : kDoubledE2M1Values;
}

// What is multiplied by the scale of a code; the codes of q8 are the bits of an int8.
constexpr int code_value(ComputeLayout layout, bool has_min, uint8_t code) {
  if (has_code_book(layout)) return code_book(layout)[code];
  if (layout == ComputeLayout::q8) return static_cast<int8_t>(code);
  return has_min ? code : code - zero_code(layout);
}

// Bytes of one panel for k columns; a multiple of 64.
constexpr int64_t panel_bytes(const PackedFormat& format, int64_t k) {
  switch (format.layout) {
    case ComputeLayout::f32:
      return k * kPanelRows * 4;
    case ComputeLayout::f16:
      return k * kPanelRows * 2;
    case ComputeLayout::bf16:
      return (k + 1) / 2 * kPanelRows * 4;
    case ComputeLayout::q8:
    case ComputeLayout::q4:
    case ComputeLayout::q6:
    case ComputeLayout::iq4:
    case ComputeLayout::e2m1:
      break;
  }
  const int64_t scale_bytes = kPanelRows * (format.scale_type == ScaleType::f16 ? 2 : 4);
  return k / kGroup *
         (code_bytes(format.layout) + scale_bytes * format.scales_per_group * (format.has_min ? 2 : 1));
}

// A packed matrix; the memory belongs to the weight arena.
struct PackedMatrix {
  PackedFormat format;
  Precision precision = Precision::exact;
  int64_t n = 0;                   // output rows
  int64_t k = 0;                   // input columns; a multiple of 32 for quantized layouts
  std::byte* panels = nullptr;     // [num_panels][panel_bytes], 64-byte aligned
  float* panel_factors = nullptr;  // [num_panels]; behind the panels

  bool is_present() const { return panels != nullptr; }
  int64_t num_panels() const { return (n + kPanelRows - 1) / kPanelRows; }
  // Rows [first, first + count), both multiples of 32.
  PackedMatrix rows(int64_t first, int64_t count) const {
    PackedMatrix part = *this;
    part.n = count;
    part.panels += first / kPanelRows * panel_bytes(format, k);
    part.panel_factors += first / kPanelRows;
    return part;
  }
  // True when products take int8 activations (QuantizedRows), false for f32.
  bool takes_int8() const { return format.is_quantized() && precision == Precision::fast; }
};

}  // namespace autoglm
