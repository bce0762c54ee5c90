#include "ops/gated_matmul.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/matmul.h"
#include "ops/matmul_chunks.h"
#include "ops/normed_chunks.h"

namespace autoglm {
namespace {

// Sums of gate or up on their way to the nonlinearity: one panel of a chunk's rows, or more of fewer rows.
constexpr int64_t kTileFloats = kChunkRows * kPanelRows;

struct GatedChunks {
  GatedMatmulParams params;
  PanelCut cut;
  decltype(cpu::KernelTable::matmul_int8) multiply;
  decltype(cpu::KernelTable::activate) activate;

  void operator()(int64_t chunk, int) const {
    const PanelCut::Range r = cut.range(chunk);
    write(r, params.out.is_present() ? part(params.out, r) : TensorView<float>(),
          params.quantized.is_present() ? part(params.quantized, r) : QuantizedRows());
  }

  void set_input(const TensorView<const float>& values, const QuantizedRows& quantized) {
    params.in = values;
    params.quantized_in = quantized;
  }

  // For one chunk of rows: its results in `memory`, kept_bytes() at most.
  void compute(int64_t chunk, std::byte* memory) const {
    const PanelCut::Range r = cut.range(chunk);
    const Kept kept = kept_in(memory, r);
    write(r, kept.values, kept.quantized);
  }

  void commit(int64_t chunk, const std::byte* memory) const {
    const PanelCut::Range r = cut.range(chunk);
    const Kept kept = kept_in(const_cast<std::byte*>(memory), r);
    if (params.out.is_present()) {
      const TensorView<float> out = part(params.out, r);
      for (int64_t row = 0; row < out.num_rows; ++row) {
        std::memcpy(out.row(row), kept.values.row(row), static_cast<size_t>(out.num_cols) * sizeof(float));
      }
    }
    if (!params.quantized.is_present()) return;
    const QuantizedRows out = part(params.quantized, r);
    for (int64_t row = 0; row < out.num_rows; ++row) {
      const QuantizedRows to = out.rows(row, 1), from = kept.quantized.rows(row, 1);
      std::memcpy(to.values, from.values, static_cast<size_t>(out.num_cols));
      std::memcpy(to.groups, from.groups,
                  static_cast<size_t>(out.num_cols / kGroup) * sizeof(ActivationGroup));
    }
  }

  static int64_t kept_bytes(const GatedMatmulParams& params, const PanelCut& cut) {
    const int64_t num_values = cut.chunk_rows * cut.chunk_panels * kPanelRows;
    const int64_t float_bytes = params.out.is_present() ? num_values * 4 : 0;
    return float_bytes + (params.quantized.is_present()
                              ? num_values + num_values / kGroup * int64_t{sizeof(ActivationGroup)}
                              : 0);
  }

 private:
  struct Kept {
    TensorView<float> values;
    QuantizedRows quantized;
  };

  int64_t num_cols(const PanelCut::Range& r) const {
    return std::min(params.up.n, r.last_panel * kPanelRows) - r.first_panel * kPanelRows;
  }
  TensorView<float> part(const TensorView<float>& all, const PanelCut::Range& r) const {
    return all.rows(r.first_row, r.last_row - r.first_row).columns(r.first_panel * kPanelRows, num_cols(r));
  }
  QuantizedRows part(const QuantizedRows& all, const PanelCut::Range& r) const {
    return all.rows(r.first_row, r.last_row - r.first_row).columns(r.first_panel * kPanelRows, num_cols(r));
  }

  // Floats, int8 and groups one after the other, each as long as a whole chunk's.
  Kept kept_in(std::byte* memory, const PanelCut::Range& r) const {
    const int64_t stride = cut.chunk_panels * kPanelRows;
    const int64_t num_values = cut.chunk_rows * stride;
    Kept kept;
    if (params.out.is_present()) {
      kept.values = {reinterpret_cast<float*>(memory), r.last_row - r.first_row, num_cols(r), stride};
      memory += num_values * 4;
    }
    if (params.quantized.is_present()) {
      kept.quantized = {reinterpret_cast<int8_t*>(memory),
                        reinterpret_cast<ActivationGroup*>(memory + num_values), r.last_row - r.first_row,
                        num_cols(r), stride};
    }
    return kept;
  }

  void write(const PanelCut::Range& r, const TensorView<float>& out, const QuantizedRows& quantized) const {
    alignas(64) float gate[kTileFloats];
    alignas(64) float up[kTileFloats];
    const int64_t num_rows = r.last_row - r.first_row;
    const int64_t tile_panels = kChunkRows / num_rows;
    for (int64_t panel = r.first_panel; panel < r.last_panel; panel += tile_panels) {
      const PanelCut::Range tile{panel, std::min(r.last_panel, panel + tile_panels), r.first_row, r.last_row};
      const int64_t first_col = (panel - r.first_panel) * kPanelRows;
      const int64_t cols = num_cols(tile);
      ActivationParams activation{
          .activation = params.activation,
          .gate = {},
          .up = {up, num_rows, cols, tile_panels * kPanelRows},
          .out = out.is_present() ? out.columns(first_col, cols) : out,
          .quantized = quantized.is_present() ? quantized.columns(first_col, cols) : quantized};
      multiply_tile(tile, params.up, params.up_bias, tile_panels, up);
      if (params.gate.is_present()) {
        multiply_tile(tile, params.gate, params.gate_bias, tile_panels, gate);
        activation.gate = {gate, num_rows, cols, tile_panels * kPanelRows};
      }
      activate(activation, 0, num_rows);
    }
  }

  // The kernel writes where the tile lies in the whole product.
  void multiply_tile(const PanelCut::Range& tile, const PackedMatrix& weights, const float* bias,
                     int64_t tile_panels, float* sums) const {
    const int64_t stride = tile_panels * kPanelRows;
    MatmulParams product{.weights = weights,
                         .in = params.in,
                         .quantized = params.quantized_in,
                         .bias = bias,
                         .residual = {},
                         .out = {sums - tile.first_row * stride - tile.first_panel * kPanelRows,
                                 tile.last_row, weights.n, stride}};
    multiply(product, tile.first_panel, tile.last_panel, tile.first_row, tile.last_row);
  }
};

void check_gated(const GatedMatmulParams& params, int64_t num_rows) {
  const PackedMatrix& up = params.up;
  check_weights("gated product: up", up);
  check_product_input("gated product: input", up, params.in, params.quantized_in, num_rows);
  check_outputs("gated product: output", params.out, params.quantized, num_rows, up.n);
  if (!params.gate.is_present()) return;
  check_weights("gated product: gate", params.gate);
  check_equal("gated product: gate's outputs", params.gate.n, up.n);
  check_equal("gated product: gate's inputs", params.gate.k, up.k);
  check_that(params.gate.takes_int8() == up.takes_int8(), "gated product: one kind of input");
}

// The stage of a product that was checked.
struct GatedStage {
  GatedStage(const Execution& execution, const GatedMatmulParams& params, int64_t num_rows)
      : cut(execution, params.up.num_panels(), num_rows, (params.gate.is_present() ? 2 : 1) * params.up.k),
        chunks{.params = params,
               .cut = cut,
               .multiply = product_kernel(execution.kernels(), params.up),
               .activate = execution.kernels().activate} {}
  int64_t kept_bytes() const { return GatedChunks::kept_bytes(chunks.params, cut); }

  PanelCut cut;
  GatedChunks chunks;
};

}  // namespace

void gated_matmul(const Execution& execution, const GatedMatmulParams& params) {
  const int64_t num_rows = output_rows(params.out, params.quantized);
  check_gated(params, num_rows);
  if (num_rows == 0) return;
  const GatedStage stage(execution, params, num_rows);
  run_chunks(execution, stage.cut, stage.kept_bytes(), stage.chunks);
}

void normed_gated_matmul(const Execution& execution, const NormParams& norm,
                         const GatedMatmulParams& params) {
  const int64_t num_rows = output_rows(params.out, params.quantized);
  check_gated(params, num_rows);
  if (num_rows == 0) return;
  const GatedStage stage(execution, params, num_rows);
  run_normed_chunks(execution, norm, stage.cut, stage.kept_bytes(), stage.chunks);
}

}  // namespace autoglm
