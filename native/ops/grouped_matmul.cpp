#include "ops/grouped_matmul.h"

#include <algorithm>
#include <vector>

#include "ops/matmul.h"
#include "ops/matmul_chunks.h"

namespace autoglm {
namespace {

struct GroupedProduct {
  const MatmulParams* params;
  int64_t first_chunk;  // number of its first chunk in the stage
  PanelCut cut;
};

// Chunks of about equal work whatever the shapes: four per thread, or more that are still worth handing out.
std::vector<GroupedProduct> cut_products(const Execution& execution, std::span<const MatmulParams> products,
                                         int64_t& num_chunks) {
  int64_t total = 0;
  for (const MatmulParams& each : products) {
    total += each.out.num_rows * each.weights.num_panels() * kPanelRows * each.weights.k;
  }
  const int64_t chunk_products = scaled(
      std::min(kMinChunkProducts, total / (kChunksPerThread * execution.num_threads())), execution.cut());
  std::vector<GroupedProduct> result;
  result.reserve(products.size());
  num_chunks = 0;
  for (const MatmulParams& each : products) {
    if (each.out.num_rows == 0) continue;
    PanelCut cut(each.weights.num_panels(), each.out.num_rows);
    const int64_t panel_products = kPanelRows * each.weights.k * cut.chunk_rows;
    cut.chunk_panels = std::clamp<int64_t>(ceil_div(chunk_products, panel_products), 1, cut.num_panels);
    result.push_back({&each, num_chunks, cut});
    num_chunks += cut.num_chunks();
  }
  return result;
}

}  // namespace

void grouped_matmul(const Execution& execution, std::span<const MatmulParams> products) {
  for (const MatmulParams& each : products) check_matmul(each);
  int64_t num_chunks = 0;
  const std::vector<GroupedProduct> cuts = cut_products(execution, products, num_chunks);
  execution.pool().run(num_chunks, [&](int64_t chunk, int) {
    const auto after = std::ranges::upper_bound(cuts, chunk, {}, &GroupedProduct::first_chunk);
    const auto& [params, first_chunk, cut] = *(after - 1);
    const PanelCut::Range r = cut.range(chunk - first_chunk);
    product_kernel(execution.kernels(), params->weights)(*params, r.first_panel, r.last_panel, r.first_row,
                                                         r.last_row);
  });
}

}  // namespace autoglm
