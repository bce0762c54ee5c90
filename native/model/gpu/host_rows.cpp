#include "model/gpu/host_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "base/half.h"

namespace autoglm::gpu {
namespace {

constexpr int64_t kLineBytes = kPanelRows * 4;  // four bytes of each lane

cuda::Bf16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return {static_cast<uint16_t>(bits >> 16 | 0x40)};  // stays NaN
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void unpack_floats(const PackedMatrix& matrix, const std::byte* panel, int64_t lane, std::span<float> out) {
  for (int64_t col = 0; col < matrix.k; ++col) {
    const auto at = static_cast<size_t>(col);
    if (matrix.format.layout == ComputeLayout::f32) {
      out[at] = load<float>(panel + (col * kPanelRows + lane) * 4);
    } else if (matrix.format.layout == ComputeLayout::f16) {
      out[at] = half_to_float(load<uint16_t>(panel + (col * kPanelRows + lane) * 2));
    } else {
      out[at] = bf16_to_float(load<uint16_t>(panel + ((col / 2 * kPanelRows + lane) * 2 + col % 2) * 2));
    }
  }
}

// Code of column `col` of a group.
uint8_t code_at(ComputeLayout layout, const std::byte* group, int64_t lane, int64_t col) {
  const int64_t quad = col / 4;
  const int64_t byte = lane * 4 + col % 4;
  if (layout == ComputeLayout::q8) return load<uint8_t>(group + quad * kLineBytes + byte);
  const uint8_t nibbles = load<uint8_t>(group + quad / 2 * kLineBytes + byte);
  auto code = static_cast<uint8_t>(quad % 2 == 0 ? nibbles & 15 : nibbles >> 4);
  if (layout != ComputeLayout::q6) return code;
  const uint8_t high = load<uint8_t>(group + (4 + col / 16) * kLineBytes + byte);
  return static_cast<uint8_t>(code | (high >> (2 * (quad % 4)) & 3) << 4);
}

const std::byte* panel_of(const PackedMatrix& matrix, int64_t row) {
  return matrix.panels + row / kPanelRows * panel_bytes(matrix.format, matrix.k);
}

const std::byte* group_of(const PackedMatrix& matrix, int64_t row, int64_t col) {
  return panel_of(matrix, row) + col / kGroup * panel_bytes(matrix.format, kGroup);
}

// The scale, or min, of the weight at (row, col), without the panel's factor.
float scale_at(const PackedMatrix& matrix, int64_t row, int64_t col, bool is_min) {
  const PackedFormat& format = matrix.format;
  const std::byte* scales = group_of(matrix, row, col) + code_bytes(format.layout);
  const int64_t part = col % kGroup / (kGroup / format.scales_per_group);
  const int64_t at = (part + (is_min ? format.scales_per_group : 0)) * kPanelRows + row % kPanelRows;
  return format.scale_type == ScaleType::f32 ? load<float>(scales + at * 4)
                                             : half_to_float(load<uint16_t>(scales + at * 2));
}

template <typename T>
void unpack_rounded(const PackedMatrix& matrix, int64_t row, T (*round)(float), std::span<T> out) {
  std::vector<float> values(static_cast<size_t>(matrix.k));
  unpack_row(matrix, row, std::span<float>(values));
  std::ranges::transform(values, out.begin(), round);
  std::fill(out.begin() + matrix.k, out.end(), T{});
}

}  // namespace

void unpack_row(const PackedMatrix& matrix, int64_t row, std::span<float> out) {
  const PackedFormat& format = matrix.format;
  if (!format.is_quantized()) return unpack_floats(matrix, panel_of(matrix, row), row % kPanelRows, out);
  const float factor = matrix.panel_factors[row / kPanelRows];
  for (int64_t col = 0; col < matrix.k; ++col) {
    const uint8_t code = code_at(format.layout, group_of(matrix, row, col), row % kPanelRows, col % kGroup);
    const int value = code_value(format.layout, format.has_min, code);
    const float min = format.has_min ? scale_at(matrix, row, col, true) : 0;
    out[static_cast<size_t>(col)] =
        (static_cast<float>(value) * scale_at(matrix, row, col, false) + min) * factor;
  }
}

void unpack_row(const PackedMatrix& matrix, int64_t row, std::span<cuda::Bf16> out) {
  unpack_rounded(matrix, row, to_bf16, out);
}

void unpack_row(const PackedMatrix& matrix, int64_t row, std::span<uint16_t> out) {
  unpack_rounded(matrix, row, float_to_half, out);
}

}  // namespace autoglm::gpu
