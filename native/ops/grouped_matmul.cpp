#include "ops/grouped_matmul.h"

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "cpu/kernel_table.h"
#include "ops/matmul.h"

namespace autoglm {
namespace {

// As in ops/matmul.cpp.
constexpr int64_t kChunkRows = 64;
constexpr int64_t kMinChunkProducts = 200'000;

// How one product is cut: chunks of panels for each chunk of rows.
struct Cut {
  const MatmulParams* product;
  int64_t first_chunk;  // number of its first chunk in the stage
  int64_t num_panel_chunks;
  int64_t chunk_panels;
  int64_t chunk_rows;
};

// Chunks of about equal work whatever the shapes: four per thread, or more that are still worth handing out.
std::vector<Cut> cut_products(std::span<const MatmulParams> products, int num_threads, int64_t& num_chunks) {
  int64_t total = 0;
  for (const MatmulParams& each : products) {
    total += each.out.num_rows * each.weights.num_panels() * kPanelRows * each.weights.k;
  }
  const int64_t chunk_products = std::min(kMinChunkProducts, total / (int64_t{4} * num_threads));
  std::vector<Cut> cuts;
  cuts.reserve(products.size());
  num_chunks = 0;
  for (const MatmulParams& each : products) {
    const int64_t num_rows = each.out.num_rows;
    if (num_rows == 0) continue;
    const int64_t num_row_chunks = ceil_div(num_rows, kChunkRows);
    const int64_t chunk_rows = ceil_div(num_rows, num_row_chunks);
    const int64_t panel_products = kPanelRows * each.weights.k * chunk_rows;
    const int64_t num_panels = each.weights.num_panels();
    const int64_t chunk_panels = std::clamp<int64_t>(ceil_div(chunk_products, panel_products), 1, num_panels);
    const int64_t num_panel_chunks = ceil_div(num_panels, chunk_panels);
    cuts.push_back({&each, num_chunks, num_panel_chunks, chunk_panels, chunk_rows});
    num_chunks += num_panel_chunks * num_row_chunks;
  }
  return cuts;
}

}  // namespace

void grouped_matmul(const Execution& execution, std::span<const MatmulParams> products) {
  for (const MatmulParams& each : products) check_matmul(each);
  int64_t num_chunks = 0;
  const std::vector<Cut> cuts = cut_products(products, execution.pool().num_threads(), num_chunks);
  execution.pool().run(num_chunks, [&](int64_t chunk, int) {
    const auto after = std::ranges::upper_bound(cuts, chunk, {}, &Cut::first_chunk);
    const Cut& cut = *(after - 1);
    const MatmulParams& product = *cut.product;
    const auto kernel =
        product.weights.takes_int8() ? execution.kernels().matmul_int8 : execution.kernels().matmul_float;
    const int64_t index = chunk - cut.first_chunk;
    const int64_t first_panel = index % cut.num_panel_chunks * cut.chunk_panels;
    const int64_t first_row = index / cut.num_panel_chunks * cut.chunk_rows;
    kernel(product, first_panel, std::min(product.weights.num_panels(), first_panel + cut.chunk_panels),
           first_row, std::min(product.out.num_rows, first_row + cut.chunk_rows));
  });
}

}  // namespace autoglm
