#include "ops/grouped_matmul.h"

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "ops/matmul.h"
#include "ops/matmul_chunks.h"

namespace autoglm {
namespace {

struct Cut {
  MatmulChunks chunks;
  int64_t first_chunk;  // number of its first chunk in the stage
};

// Chunks of about equal work whatever the shapes: four per thread, or more that are still worth handing out.
std::vector<Cut> cut_products(const Execution& execution, std::span<const MatmulParams> products) {
  int64_t total = 0;
  for (const MatmulParams& each : products) {
    total += each.out.num_rows * each.weights.num_panels() * kPanelRows * each.weights.k;
  }
  const int64_t num_threads = execution.pool().num_threads();
  const int64_t chunk_products = std::min(kMinChunkProducts, total / (4 * num_threads));
  std::vector<Cut> cuts;
  cuts.reserve(products.size());
  int64_t num_chunks = 0;
  for (const MatmulParams& each : products) {
    if (each.out.num_rows == 0) continue;
    MatmulChunks chunks(execution.kernels(), each);
    chunks.chunk_panels =
        std::clamp<int64_t>(ceil_div(chunk_products, chunks.panel_products()), 1, each.weights.num_panels());
    cuts.push_back({chunks, num_chunks});
    num_chunks += chunks.num_chunks();
  }
  return cuts;
}

}  // namespace

void grouped_matmul(const Execution& execution, std::span<const MatmulParams> products) {
  for (const MatmulParams& each : products) check_matmul(each);
  const std::vector<Cut> cuts = cut_products(execution, products);
  if (cuts.empty()) return;
  const int64_t num_chunks = cuts.back().first_chunk + cuts.back().chunks.num_chunks();
  execution.pool().run(num_chunks, [&](int64_t chunk, int) {
    const auto after = std::ranges::upper_bound(cuts, chunk, {}, &Cut::first_chunk);
    const Cut& cut = *(after - 1);
    cut.chunks.run(chunk - cut.first_chunk);
  });
}

}  // namespace autoglm
