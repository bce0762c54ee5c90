#include "cuda/quantized/repack.h"

#include <algorithm>

#include "cuda/quantized/weight_order.h"

namespace autoglm::cuda {

LaunchShape repack_launch(const RepackArgs& args) {
  if (args.num_rows == 0) return {};
  const int64_t first = args.first_row + args.first_panel * kPanelRows;
  const int64_t first_panel = mapped_row(args.mapping, first) / kPanelRows;
  const int64_t last_panel = mapped_row(args.mapping, first + args.num_rows - 1) / kPanelRows;
  return {.kernel = "quantized_repack",
          .grid_x = static_cast<unsigned>(num_slabs(args.k)),
          .grid_y = static_cast<unsigned>(last_panel - first_panel + 1),
          .num_threads = 256};
}

void merge_row_factors(const float* panel_factors, int64_t num_rows, RowMapping mapping, int64_t first_row,
                       float* row_factors) {
  for (int64_t row = 0; row < num_rows; ++row) {
    float& merged = row_factors[mapped_row(mapping, first_row + row) / kPanelRows];
    merged = std::max(merged, panel_factors[row / kPanelRows]);
  }
}

}  // namespace autoglm::cuda
