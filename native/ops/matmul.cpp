#include "ops/matmul.h"

#include <algorithm>

#include "base/checked.h"
#include "cpu/kernel_table.h"
#include "ops/check.h"

namespace autoglm {
namespace {

// A chunk's activations, at most 64 rows of a few thousand int8 columns, stay in the L2 cache beside its
// panel.
constexpr int64_t kChunkRows = 64;
// Products of one chunk that are worth handing it out: about 5 microseconds.
constexpr int64_t kMinChunkProducts = 200'000;

}  // namespace

void check_matmul(const MatmulParams& params) {
  const PackedMatrix& weights = params.weights;
  check_that(weights.is_present() && weights.panel_factors != nullptr, "matmul: packed weights");
  check_that(is_computable(weights.format), "matmul: a packed format that has a kernel");
  check_that(params.out.is_present(), "matmul: an output");
  const int64_t num_rows = params.out.num_rows;
  check_view("matmul: output", params.out, num_rows, weights.n);
  if (weights.takes_int8()) {
    check_quantized("matmul: int8 input", params.quantized, num_rows, weights.k);
    check_that(weights.format.scale_type == ScaleType::f16, "matmul: half scales for int8 products");
  } else {
    check_view("matmul: input", params.in, num_rows, weights.k);
  }
  if (params.residual.is_present()) check_view("matmul: residual", params.residual, num_rows, weights.n);
}

void matmul(const Execution& execution, const MatmulParams& params) {
  check_matmul(params);
  const int64_t num_rows = params.out.num_rows;
  if (num_rows == 0) return;
  const auto kernel =
      params.weights.takes_int8() ? execution.kernels().matmul_int8 : execution.kernels().matmul_float;
  const int64_t num_panels = params.weights.num_panels();
  const int64_t num_row_chunks = ceil_div(num_rows, kChunkRows);
  const int64_t chunk_rows = ceil_div(num_rows, num_row_chunks);
  const int64_t panel_products = kPanelRows * params.weights.k * chunk_rows;
  const int64_t panels_for_size = ceil_div(kMinChunkProducts, panel_products);
  const int64_t panels_for_balance =
      std::max<int64_t>(1, num_panels * num_row_chunks / (int64_t{4} * execution.pool().num_threads()));
  const int64_t chunk_panels = std::min(panels_for_size, panels_for_balance);
  const int64_t num_panel_chunks = ceil_div(num_panels, chunk_panels);
  // Row chunks are the outer index: threads share the activations and stream the weights.
  execution.pool().run(num_panel_chunks * num_row_chunks, [&](int64_t chunk, int) {
    const int64_t first_panel = chunk % num_panel_chunks * chunk_panels;
    const int64_t first_row = chunk / num_panel_chunks * chunk_rows;
    kernel(params, first_panel, std::min(num_panels, first_panel + chunk_panels), first_row,
           std::min(num_rows, first_row + chunk_rows));
  });
}

}  // namespace autoglm
