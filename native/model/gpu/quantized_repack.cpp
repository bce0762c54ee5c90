#include "model/gpu/quantized_repack.h"

#include "cuda/quantized/repack.h"

namespace autoglm::gpu {
namespace {

cuda::RowMapping mapping_of(PartRows rows) {
  return rows == PartRows::plain  ? cuda::RowMapping::plain
         : rows == PartRows::gate ? cuda::RowMapping::gate
                                  : cuda::RowMapping::up;
}

}  // namespace

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
