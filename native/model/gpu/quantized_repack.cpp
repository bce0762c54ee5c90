#include "model/gpu/quantized_repack.h"

#include <cstring>

#include "cuda/quantized/repack.h"

namespace autoglm::gpu {
namespace {

constexpr int64_t kLongestGroup = 128;  // that the products' kernels take

cuda::RowMapping mapping_of(PartRows rows) {
  return rows == PartRows::plain  ? cuda::RowMapping::plain
         : rows == PartRows::gate ? cuda::RowMapping::gate
                                  : cuda::RowMapping::up;
}

// Whether each run of `group` columns has one scale, and one min, in every row of the panel.
bool has_groups_of(int64_t group, const PackedMatrix& matrix, const std::byte* panel) {
  const int64_t bytes = panel_bytes(matrix.format, kGroup);
  const int64_t first_scale = code_bytes(matrix.format.layout);
  for (int64_t i = 0; i < matrix.k / kGroup; ++i) {
    const std::byte* scales = panel + i * bytes + first_scale;
    const bool begins_group = i % (group / kGroup) == 0;
    if (!begins_group && std::memcmp(scales - bytes, scales, static_cast<size_t>(bytes - first_scale)) != 0)
      return false;
  }
  return true;
}

}  // namespace

int32_t shared_group(const PackedMatrix& matrix, int64_t first_row, int64_t num_rows) {
  if (matrix.format.scales_per_group != 1)
    return static_cast<int32_t>(kGroup) / matrix.format.scales_per_group;
  int64_t group = kLongestGroup;
  while (matrix.k % group != 0) group /= 2;
  const int64_t bytes = panel_bytes(matrix.format, matrix.k);
  const std::byte* const end = matrix.panels + cuda::ceil_div(first_row + num_rows, kPanelRows) * bytes;
  for (const std::byte* panel = matrix.panels + first_row / kPanelRows * bytes; panel != end;
       panel += bytes) {
    while (group > kGroup && !has_groups_of(group, matrix, panel)) group /= 2;
    if (group == kGroup) break;
  }
  return static_cast<int32_t>(group);
}

void repack_quantized(const QuantizedPiece& piece, const cuda::DeviceMatrix& destination,
                      cuda::Stream& stream) {
  const cuda::RepackArgs args{.panels = piece.panels,
                              .panel_factors = piece.panel_factors,
                              .format = piece.format,
                              .k = destination.k,
                              .num_rows = static_cast<int32_t>(piece.num_rows),
                              .first_panel = static_cast<int32_t>(piece.first_panel),
                              .mapping = mapping_of(piece.rows),
                              .first_row = static_cast<int32_t>(piece.first_row),
                              .weights = const_cast<void*>(destination.weights),
                              .scales = const_cast<void*>(destination.scales),
                              .mins = const_cast<void*>(destination.mins),
                              .row_factors = destination.row_factors,
                              .group = destination.group};
  cuda::launch(stream, cuda::repack_launch(args), args);
}

void merge_factors(const float* panel_factors, int64_t num_rows, PartRows rows, int64_t first_row,
                   std::span<float> row_factors) {
  cuda::merge_row_factors(panel_factors, num_rows, mapping_of(rows), first_row, row_factors.data());
}

}  // namespace autoglm::gpu
