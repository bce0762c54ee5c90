#include "cpu/embedding.h"

#include <cstring>

#include "base/half.h"

namespace autoglm::cpu {
namespace {

constexpr int64_t kLineBytes = kPanelRows * 4;  // four bytes of each lane

// Reads one row (lane) of a panel; offsets are those of base/packed_matrix.h.
class PanelRow {
 public:
  PanelRow(const PackedMatrix& matrix, int64_t row)
      : matrix_(matrix),
        panel_(matrix.panels + row / kPanelRows * panel_bytes(matrix.format, matrix.k)),
        lane_(row % kPanelRows),
        factor_(matrix.panel_factors[row / kPanelRows]) {}

  // Columns [32 * group, 32 * group + count) to out.
  void expand(int64_t group, int64_t count, float* out) const {
    switch (matrix_.format.layout) {
      case ComputeLayout::f32:
      case ComputeLayout::f16:
      case ComputeLayout::bf16:
        for (int64_t i = 0; i < count; ++i) out[i] = float_value(group * kGroup + i);
        return;
      case ComputeLayout::q8:
      case ComputeLayout::q4:
      case ComputeLayout::q6:
      case ComputeLayout::iq4:
      case ComputeLayout::e2m1:
        return expand_quantized(group, out);
    }
  }

 private:
  float float_value(int64_t col) const {
    const auto half_at = [&](int64_t index) {
      uint16_t bits;
      std::memcpy(&bits, panel_ + index * 2, 2);
      return bits;
    };
    if (matrix_.format.layout == ComputeLayout::f16) return half_to_float(half_at(col * kPanelRows + lane_));
    if (matrix_.format.layout == ComputeLayout::bf16) {
      return bf16_to_float(half_at((col / 2 * kPanelRows + lane_) * 2 + col % 2));
    }
    float value;
    std::memcpy(&value, panel_ + (col * kPanelRows + lane_) * 4, 4);
    return value;
  }

  const std::byte* group_data(int64_t group) const {
    return panel_ + group * panel_bytes(matrix_.format, kGroup);
  }

  int byte(int64_t group, int64_t line, int64_t index) const {
    return static_cast<int>(group_data(group)[line * kLineBytes + lane_ * 4 + index]);
  }

  // Scale number `index` of this lane; the mins are counted behind the scales.
  float scale(int64_t group, int64_t index) const {
    const std::byte* scales = group_data(group) + code_bytes(matrix_.format.layout);
    const int64_t at = index * kPanelRows + lane_;
    if (matrix_.format.scale_type == ScaleType::f32) {
      float value;
      std::memcpy(&value, scales + at * 4, 4);
      return value * factor_;
    }
    uint16_t bits;
    std::memcpy(&bits, scales + at * 2, 2);
    return half_to_float(bits) * factor_;
  }

  int code(int64_t group, int64_t col) const {
    if (matrix_.format.layout == ComputeLayout::q8) return byte(group, col / 4, col % 4);
    const int nibble = byte(group, col / 8, col % 4) >> col % 8 / 4 * 4 & 15;
    if (matrix_.format.layout != ComputeLayout::q6) return nibble;
    return nibble | (byte(group, 4 + col / 16, col % 4) >> col % 16 / 4 * 2 & 3) << 4;
  }

  void expand_quantized(int64_t group, float* out) const {
    const PackedFormat& format = matrix_.format;
    const int64_t part_cols = kGroup / format.scales_per_group;
    for (int64_t part = 0; part < format.scales_per_group; ++part) {
      const float step = scale(group, part);
      const float min = format.has_min ? scale(group, format.scales_per_group + part) : 0;
      for (int64_t col = part * part_cols; col < (part + 1) * part_cols; ++col) {
        const auto bits = static_cast<uint8_t>(code(group, col));
        out[col] = static_cast<float>(code_value(format.layout, format.has_min, bits)) * step;
        if (format.has_min) out[col] += min;
      }
    }
  }

  const PackedMatrix& matrix_;
  const std::byte* panel_;
  int64_t lane_;
  float factor_;
};

}  // namespace

void embed_rows(const EmbeddingParams& params, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row) {
    const PanelRow table(params.table, params.ids[row]);
    float* out = params.out.row(row);
    for (int64_t col = 0; col < params.table.k; col += kGroup) {
      const int64_t count = params.table.k - col < kGroup ? params.table.k - col : kGroup;
      table.expand(col / kGroup, count, out + col);
      for (int64_t i = 0; i < count; ++i) out[col + i] *= params.scale;
      const auto add = [&](const PackedMatrix& matrix, const int32_t* ids) {
        float added[kGroup];
        PanelRow(matrix, ids[row]).expand(col / kGroup, count, added);
        for (int64_t i = 0; i < count; ++i) out[col + i] += added[i];
      };
      if (params.positions.is_present()) add(params.positions, params.position_ids);
      if (params.types.is_present()) add(params.types, params.type_ids);
    }
  }
}

}  // namespace autoglm::cpu
