#include "ops/matmul.h"

#include <algorithm>
#include <cstring>

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

// A thread that is late in a replayable chunk may read activations that are already others; its result is
// dropped. The thread sanitizer would call that a race.
#if defined(__SANITIZE_THREAD__)
constexpr bool kMayReplay = false;
#else
constexpr bool kMayReplay = true;
#endif

// The chunks of one product. Row chunks are the outer index: threads share the activations and stream the
// weights.
struct MatmulChunks {
  struct Range {
    int64_t first_panel, last_panel, first_row, last_row;
  };

  MatmulParams params;
  decltype(cpu::KernelTable::matmul_int8) kernel;
  int64_t num_panel_chunks;
  int64_t chunk_panels;
  int64_t chunk_rows;

  Range range(int64_t chunk) const {
    const int64_t first_panel = chunk % num_panel_chunks * chunk_panels;
    const int64_t first_row = chunk / num_panel_chunks * chunk_rows;
    return {first_panel, std::min(params.weights.num_panels(), first_panel + chunk_panels), first_row,
            std::min(params.out.num_rows, first_row + chunk_rows)};
  }

  void operator()(int64_t chunk, int) const {
    const Range r = range(chunk);
    kernel(params, r.first_panel, r.last_panel, r.first_row, r.last_row);
  }

  // The chunk's outputs row by row in `memory`, kReplayBytes at most; for products with one row chunk.
  void compute(int64_t chunk, std::byte* memory) const {
    const Range r = range(chunk);
    MatmulParams here = params;
    here.out.row_stride = chunk_panels * kPanelRows;
    here.out.data = reinterpret_cast<float*>(memory) - r.first_panel * kPanelRows;
    kernel(here, r.first_panel, r.last_panel, r.first_row, r.last_row);
  }

  void commit(int64_t chunk, const std::byte* memory) const {
    const Range r = range(chunk);
    const int64_t first_col = r.first_panel * kPanelRows;
    const int64_t num_cols = std::min(params.weights.n, r.last_panel * kPanelRows) - first_col;
    for (int64_t row = 0; row < params.out.num_rows; ++row) {
      std::memcpy(params.out.row(row) + first_col,
                  memory + static_cast<size_t>(row * chunk_panels * kPanelRows) * sizeof(float),
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
  const int64_t num_rows = params.out.num_rows;
  if (num_rows == 0) return;
  const int64_t num_threads = execution.pool().num_threads();
  const int64_t num_panels = params.weights.num_panels();
  const int64_t num_row_chunks = ceil_div(num_rows, kChunkRows);
  const int64_t chunk_rows = ceil_div(num_rows, num_row_chunks);
  const int64_t panel_products = kPanelRows * params.weights.k * chunk_rows;
  const int64_t panels_for_size = ceil_div(kMinChunkProducts, panel_products);
  const int64_t panels_for_balance = std::max<int64_t>(1, num_panels * num_row_chunks / (4 * num_threads));
  const int64_t chunk_panels = std::min(panels_for_size, panels_for_balance);
  const int64_t num_panel_chunks = ceil_div(num_panels, chunk_panels);
  const int64_t num_chunks = num_panel_chunks * num_row_chunks;
  const MatmulChunks chunks{.params = params,
                            .kernel = params.weights.takes_int8() ? execution.kernels().matmul_int8
                                                                  : execution.kernels().matmul_float,
                            .num_panel_chunks = num_panel_chunks,
                            .chunk_panels = chunk_panels,
                            .chunk_rows = chunk_rows};
  const auto out_bytes = static_cast<size_t>(chunk_panels * kPanelRows * chunk_rows) * sizeof(float);
  if (kMayReplay && num_threads > 1 && num_row_chunks == 1 && num_chunks <= ThreadPool::kMaxReplayChunks &&
      out_bytes <= ThreadPool::kReplayBytes) {
    execution.run_replayable(num_chunks, chunks);
  } else {
    execution.run(num_chunks, chunks);
  }
}

}  // namespace autoglm
