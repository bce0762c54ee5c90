#include "quant/packed_matrix.h"

#include <string>

#include "base/checked.h"

namespace autoglm {
namespace {

// A cache line and a zmm register.
constexpr int64_t kAlignment = 64;

void check_shape(const PackedFormat& format, int64_t n, int64_t k) {
  if (n < 1 || k < 1) {
    throw Error(ErrorCode::invalid_parameter, "expected a matrix with at least one row and column, got [" +
                                                  std::to_string(n) + ", " + std::to_string(k) + "]");
  }
  if (format.is_quantized() && k % kGroup != 0) {
    throw Error(ErrorCode::invalid_parameter, "expected a multiple of 32 columns for layout " +
                                                  std::string(name_of(format.layout)) + ", got " +
                                                  std::to_string(k));
  }
}

}  // namespace

PackedFormat choose_packed_format(StoredFormat stored, Precision precision) {
  const StoredFormatInfo& info = info_of(stored);
  if (info.scales_per_group == 0) return {.layout = info.layout};
  return {.layout = info.layout,
          .scale_type = precision == Precision::exact ? info.exact_scales : ScaleType::f16,
          .scales_per_group = info.scales_per_group,
          .has_min = info.has_min};
}

int64_t packed_matrix_bytes(const PackedFormat& format, int64_t n, int64_t k) {
  check_shape(format, n, k);
  // No layout takes more than 8 bytes per weight, so this product bounds the size.
  (void)checked_mul(checked_mul(k, kPanelRows * 8, "a packed matrix"), ceil_div(n, kPanelRows),
                    "a packed matrix");
  const int64_t num_panels = ceil_div(n, kPanelRows);
  return num_panels * panel_bytes(format, k) +
         checked_round_up(num_panels * int64_t{sizeof(float)}, kAlignment, "a packed matrix");
}

PackedMatrix make_packed_matrix(const PackedFormat& format, Precision precision, int64_t n, int64_t k,
                                std::span<std::byte> memory) {
  const int64_t needed = packed_matrix_bytes(format, n, k);
  if (static_cast<int64_t>(memory.size()) < needed ||
      reinterpret_cast<uintptr_t>(memory.data()) % kAlignment != 0) {
    throw Error(ErrorCode::invalid_parameter, "expected " + std::to_string(needed) +
                                                  " bytes aligned to 64 for a packed matrix, got " +
                                                  std::to_string(memory.size()));
  }
  PackedMatrix matrix = {.format = format, .precision = precision, .n = n, .k = k, .panels = memory.data()};
  matrix.panel_factors =
      reinterpret_cast<float*>(memory.data() + matrix.num_panels() * panel_bytes(format, k));
  return matrix;
}

}  // namespace autoglm
