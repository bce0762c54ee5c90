#include "ops/matmul.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "ops/check.h"
#include "ops/matmul_chunks.h"

namespace autoglm {
namespace {

// A thread that is late in a replayable chunk may read activations that are already others; its result is
// dropped. The thread sanitizer would call that a race.
#if defined(__SANITIZE_THREAD__)
constexpr bool kMayReplay = false;
#else
constexpr bool kMayReplay = true;
#endif

// A chunk as the pool calls it. `compute` and `commit` are for products with one row chunk.
struct MatmulStage {
  MatmulChunks chunks;

  void operator()(int64_t chunk, int) const { chunks.run(chunk); }

  // The chunk's outputs row by row in `memory`, kReplayBytes at most.
  void compute(int64_t chunk, std::byte* memory) const {
    const MatmulChunks::Range r = chunks.range(chunk);
    MatmulParams here = chunks.params;
    here.out.row_stride = chunks.chunk_panels * kPanelRows;
    here.out.data = reinterpret_cast<float*>(memory) - r.first_panel * kPanelRows;
    chunks.kernel(here, r.first_panel, r.last_panel, r.first_row, r.last_row);
  }

  void commit(int64_t chunk, const std::byte* memory) const {
    const MatmulChunks::Range r = chunks.range(chunk);
    const MatmulParams& params = chunks.params;
    const int64_t first_col = r.first_panel * kPanelRows;
    const int64_t num_cols = std::min(params.weights.n, r.last_panel * kPanelRows) - first_col;
    for (int64_t row = 0; row < params.out.num_rows; ++row) {
      std::memcpy(params.out.row(row) + first_col,
                  memory + static_cast<size_t>(row * chunks.chunk_panels * kPanelRows) * sizeof(float),
                  static_cast<size_t>(num_cols) * sizeof(float));
    }
  }
};

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
  if (params.out.num_rows == 0) return;
  const int64_t num_threads = execution.pool().num_threads();
  MatmulStage stage{MatmulChunks(execution.kernels(), params)};
  MatmulChunks& chunks = stage.chunks;
  const int64_t panels_for_size = ceil_div(kMinChunkProducts, chunks.panel_products());
  const int64_t panels_for_balance =
      std::max<int64_t>(1, params.weights.num_panels() * chunks.num_row_chunks / (4 * num_threads));
  chunks.chunk_panels = std::min(panels_for_size, panels_for_balance);
  const int64_t num_chunks = chunks.num_chunks();
  const auto out_bytes =
      static_cast<size_t>(chunks.chunk_panels * kPanelRows * chunks.chunk_rows) * sizeof(float);
  if (kMayReplay && num_threads > 1 && chunks.num_row_chunks == 1 &&
      num_chunks <= ThreadPool::kMaxReplayChunks && out_bytes <= ThreadPool::kReplayBytes) {
    execution.run_replayable(num_chunks, stage);
  } else {
    execution.run(num_chunks, stage);
  }
}

}  // namespace autoglm
