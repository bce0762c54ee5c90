#include "ops/matmul.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "ops/check.h"
#include "ops/matmul_chunks.h"
#include "ops/normed_chunks.h"

namespace autoglm {
namespace {

struct MatmulChunks {
  MatmulParams params;
  PanelCut cut;
  decltype(cpu::KernelTable::matmul_int8) kernel;

  void operator()(int64_t chunk, int) const {
    const PanelCut::Range r = cut.range(chunk);
    kernel(params, r.first_panel, r.last_panel, r.first_row, r.last_row);
  }

  void set_input(const TensorView<const float>& values, const QuantizedRows& quantized) {
    params.in = values;
    params.quantized = quantized;
  }

  // For one chunk of rows: its outputs row by row in `memory`.
  void compute(int64_t chunk, std::byte* memory) const {
    const PanelCut::Range r = cut.range(chunk);
    MatmulParams here = params;
    here.out.row_stride = cut.chunk_panels * kPanelRows;
    here.out.data = reinterpret_cast<float*>(memory) - r.first_panel * kPanelRows;
    kernel(here, r.first_panel, r.last_panel, r.first_row, r.last_row);
  }

  void commit(int64_t chunk, const std::byte* memory) const {
    const PanelCut::Range r = cut.range(chunk);
    const int64_t first_col = r.first_panel * kPanelRows;
    const int64_t num_cols = std::min(params.weights.n, r.last_panel * kPanelRows) - first_col;
    for (int64_t row = 0; row < params.out.num_rows; ++row) {
      std::memcpy(params.out.row(row) + first_col,
                  memory + static_cast<size_t>(row * cut.chunk_panels * kPanelRows) * sizeof(float),
                  static_cast<size_t>(num_cols) * sizeof(float));
    }
  }
};

}  // namespace

void check_weights(const char* what, const PackedMatrix& weights) {
  if (!weights.is_present() || weights.panel_factors == nullptr || !is_computable(weights.format)) {
    throw Error(ErrorCode::invalid_parameter, std::string(what) + ": expected packed weights with a kernel");
  }
  check_that(!weights.takes_int8() || weights.format.scale_type == ScaleType::f16,
             "half scales for int8 products");
}

void check_product_input(const char* what, const PackedMatrix& weights, const TensorView<const float>& in,
                         const QuantizedRows& quantized, int64_t num_rows) {
  if (weights.takes_int8()) {
    check_quantized(what, quantized, num_rows, weights.k);
  } else {
    check_view(what, in, num_rows, weights.k);
  }
}

void check_matmul(const MatmulParams& params) {
  check_weights("matmul: weights", params.weights);
  check_that(params.out.is_present(), "matmul: an output");
  const int64_t num_rows = params.out.num_rows;
  check_view("matmul: output", params.out, num_rows, params.weights.n);
  check_product_input("matmul: input", params.weights, params.in, params.quantized, num_rows);
  if (params.residual.is_present())
    check_view("matmul: residual", params.residual, num_rows, params.weights.n);
}

namespace {

// The stage of a product that was checked.
struct MatmulStage {
  MatmulStage(const Execution& execution, const MatmulParams& params)
      : cut(execution, params.weights.num_panels(), params.out.num_rows, params.weights.k),
        chunks{params, cut, product_kernel(execution.kernels(), params.weights)} {}
  int64_t kept_bytes() const {
    return cut.chunk_rows * cut.chunk_panels * kPanelRows * int64_t{sizeof(float)};
  }

  PanelCut cut;
  MatmulChunks chunks;
};

}  // namespace

void matmul(const Execution& execution, const MatmulParams& params) {
  check_matmul(params);
  if (params.out.num_rows == 0) return;
  const MatmulStage stage(execution, params);
  run_chunks(execution, stage.cut, stage.kept_bytes(), stage.chunks);
}

void normed_matmul(const Execution& execution, const NormParams& norm, const MatmulParams& params) {
  check_matmul(params);
  if (params.out.num_rows == 0) return;
  const MatmulStage stage(execution, params);
  run_normed_chunks(execution, norm, stage.cut, stage.kept_bytes(), stage.chunks);
}

}  // namespace autoglm
