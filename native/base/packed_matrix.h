// The compute layout of a weight matrix [n out, k in]: what quant/ writes and the kernels read.
//
// Rows are grouped in panels of 32, zero rows filling the last one. Panels follow each other; inside a panel
// the k axis is the outer one, so a kernel reads a panel as one sequential stream. `lane` is the row within
// its panel.
//
//   f32    [k][32 lanes] float
//   f16    [k][32 lanes] half
//   bf16   [ceil(k / 2)][32 lanes][2] bfloat16, the k pair of one lane side by side, zero after an odd k
//   q4     per group of 32 k: [4][2 halves][16 lanes][4 bytes], then scales [32 lanes], then mins [32] if
//   has_min.
//          Byte j of octet o holds k = 8 o + j in its low and k = 8 o + 4 + j in its high nibble, unsigned.
//          weight = q * scale + min, or (q - 8) * scale without mins.
//   q8     per group of 32 k: [8][2 halves][16 lanes][4 bytes] signed, then scales [32 lanes]. weight = q *
//   scale. q6     per group of 32 k: the q4 nibbles; then [2 half groups of 16 k][2 halves][16 lanes][4
//   bytes] whose byte j
//          holds bits 4 and 5 of k = 16 h + 4 i + j in its bits 2 i and 2 i + 1; then scales [2 half
//          groups][32 lanes]. weight = (q - 32) * scale of the half group.
//
// Scales and mins are halves or floats (ScaleType). Those of panel p are stored divided by panel_factors[p],
// a power of two that keeps products of block and sub-block scales in the range of a half.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/formats.h"

namespace autoglm {

inline constexpr int64_t kPanelRows =
    32;                                // two zmm or four ymm accumulators; one activation group of outputs
inline constexpr int64_t kGroup = 32;  // k per scale, and per scale of the int8 activations

enum class ScaleType : uint8_t { f16, f32 };

struct PackedFormat {
  ComputeLayout layout = ComputeLayout::f32;
  ScaleType scale_type = ScaleType::f16;  // quantized layouts only
  bool has_min = false;                   // q4 only

  bool operator==(const PackedFormat&) const = default;
  bool is_quantized() const { return layout >= ComputeLayout::q8; }
};
static_assert(ComputeLayout::q8 < ComputeLayout::q4 && ComputeLayout::bf16 < ComputeLayout::q8);

// Bytes of one panel for k columns; a multiple of 64.
constexpr int64_t panel_bytes(const PackedFormat& format, int64_t k) {
  const int64_t scale_bytes = kPanelRows * (format.scale_type == ScaleType::f16 ? 2 : 4);
  switch (format.layout) {
    case ComputeLayout::f32:
      return k * kPanelRows * 4;
    case ComputeLayout::f16:
      return k * kPanelRows * 2;
    case ComputeLayout::bf16:
      return (k + 1) / 2 * kPanelRows * 4;
    case ComputeLayout::q8:
      return k / kGroup * (1024 + scale_bytes);
    case ComputeLayout::q4:
      return k / kGroup * (512 + scale_bytes * (format.has_min ? 2 : 1));
    case ComputeLayout::q6:
      return k / kGroup * (768 + scale_bytes * 2);
  }
  return 0;
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
  // True when products take int8 activations (QuantizedRows), false for f32.
  bool takes_int8() const { return format.is_quantized() && precision == Precision::fast; }
};

}  // namespace autoglm
