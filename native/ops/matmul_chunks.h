// How one product is cut into chunks for the thread pool.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/checked.h"
#include "base/op_params.h"
#include "cpu/kernel_table.h"

namespace autoglm {

// A chunk's activations, at most 64 rows of a few thousand int8 columns, stay in the L2 cache beside its
// panel.
inline constexpr int64_t kChunkRows = 64;
// Products of one chunk that are worth handing it out: about 5 microseconds.
inline constexpr int64_t kMinChunkProducts = 200'000;

// Rows are cut evenly, the caller decides about panels. Row chunks are the outer index: threads share the
// activations and stream the weights.
struct MatmulChunks {
  struct Range {
    int64_t first_panel, last_panel, first_row, last_row;
  };

  MatmulParams params;
  decltype(cpu::KernelTable::matmul_int8) kernel;
  int64_t num_row_chunks;
  int64_t chunk_rows;
  int64_t chunk_panels = 1;

  // `matmul` has at least one row.
  MatmulChunks(const cpu::KernelTable& kernels, const MatmulParams& matmul)
      : params(matmul),
        kernel(matmul.weights.takes_int8() ? kernels.matmul_int8 : kernels.matmul_float),
        num_row_chunks(ceil_div(matmul.out.num_rows, kChunkRows)),
        chunk_rows(ceil_div(matmul.out.num_rows, num_row_chunks)) {}

  // Multiplications of one panel with the rows of a chunk.
  int64_t panel_products() const { return kPanelRows * params.weights.k * chunk_rows; }
  int64_t num_panel_chunks() const { return ceil_div(params.weights.num_panels(), chunk_panels); }
  int64_t num_chunks() const { return num_panel_chunks() * num_row_chunks; }

  Range range(int64_t chunk) const {
    const int64_t first_panel = chunk % num_panel_chunks() * chunk_panels;
    const int64_t first_row = chunk / num_panel_chunks() * chunk_rows;
    return {first_panel, std::min(params.weights.num_panels(), first_panel + chunk_panels), first_row,
            std::min(params.out.num_rows, first_row + chunk_rows)};
  }

  void run(int64_t chunk) const {
    const Range r = range(chunk);
    kernel(params, r.first_panel, r.last_panel, r.first_row, r.last_row);
  }
};

}  // namespace autoglm
