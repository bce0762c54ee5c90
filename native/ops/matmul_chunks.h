// How products are cut into chunks for the thread pool, and how a stage of them is queued.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/checked.h"
#include "base/op_params.h"
#include "cpu/kernel_table.h"
#include "ops/execution.h"

namespace autoglm {

// A chunk's activations, at most 64 rows of a few thousand int8 columns, stay in the L2 cache beside its
// panel.
inline constexpr int64_t kChunkRows = 64;
// Products of one chunk that make handing it out cheap: 10 to 30 microseconds.
inline constexpr int64_t kMinChunkProducts = 800'000;
// So that a thread that loses its core costs little.
inline constexpr int64_t kChunksPerThread = 4;

// A number of chunks, panels or products as StepCut::chunk_percent scales it.
inline int64_t scaled(int64_t work, const StepCut& cut) { return work * cut.chunk_percent / 100; }

// Chunks of panels for each chunk of rows; rows are cut evenly. Row chunks are the outer index: threads share
// the activations and stream the weights.
struct PanelCut {
  struct Range {
    int64_t first_panel, last_panel, first_row, last_row;
  };

  int64_t num_panels;
  int64_t num_rows;  // at least one
  int64_t num_row_chunks;
  int64_t chunk_rows;
  int64_t chunk_panels = 1;

  PanelCut(int64_t panels, int64_t rows)
      : num_panels(panels),
        num_rows(rows),
        num_row_chunks(ceil_div(rows, kChunkRows)),
        chunk_rows(ceil_div(rows, num_row_chunks)) {}

  // For a stage of this product alone; each output is the sum of `output_products` products.
  PanelCut(const Execution& execution, int64_t panels, int64_t rows, int64_t output_products)
      : PanelCut(panels, rows) {
    const StepCut& cut = execution.cut();
    const int64_t panel_products = kPanelRows * output_products * chunk_rows;
    const int64_t panels_for_size = ceil_div(scaled(kMinChunkProducts, cut), panel_products);
    const int64_t panels_for_balance =
        scaled(num_panels * num_row_chunks, cut) / (kChunksPerThread * execution.num_threads());
    chunk_panels = std::clamp<int64_t>(panels_for_balance, 1, panels_for_size);
  }

  int64_t num_panel_chunks() const { return ceil_div(num_panels, chunk_panels); }
  int64_t num_chunks() const { return num_panel_chunks() * num_row_chunks; }

  Range range(int64_t chunk) const {
    const int64_t first_panel = chunk % num_panel_chunks() * chunk_panels;
    const int64_t first_row = chunk / num_panel_chunks() * chunk_rows;
    return {first_panel, std::min(num_panels, first_panel + chunk_panels), first_row,
            std::min(num_rows, first_row + chunk_rows)};
  }
};

inline auto product_kernel(const cpu::KernelTable& kernels, const PackedMatrix& weights) {
  return weights.takes_int8() ? kernels.matmul_int8 : kernels.matmul_float;
}

// A thread that is late in a replayable chunk may read activations that are already others; its result is
// dropped. The thread sanitizer would call that a race.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kMayReplay = false;
#else
inline constexpr bool kMayReplay = true;
#endif

// Whether a stage of this cut can be replayed: one chunk of rows, and what a chunk keeps for its commit,
// `kept_bytes`, fits a thread's memory.
inline bool is_replayable(const Execution& execution, const PanelCut& cut, int64_t kept_bytes) {
  return kMayReplay && execution.num_threads() > 1 && cut.num_row_chunks == 1 &&
         cut.num_chunks() <= ThreadPool::kMaxReplayChunks &&
         kept_bytes <= static_cast<int64_t>(ThreadPool::kReplayBytes);
}

// Queues chunks(chunk, worker) for every chunk, replayable where that can be.
template <typename Chunks>
void run_chunks(const Execution& execution, const PanelCut& cut, int64_t kept_bytes, const Chunks& chunks) {
  if (is_replayable(execution, cut, kept_bytes)) {
    execution.run_replayable(cut.num_chunks(), chunks);
  } else {
    execution.run(cut.num_chunks(), chunks);
  }
}

}  // namespace autoglm
