// The norm before a product of few rows, in the product's own stage: every thread norms the rows for itself
// in the time that it would wait for the one that does it for all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/checked.h"
#include "base/op_params.h"
#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/matmul_chunks.h"
#include "ops/norm.h"
#include "ops/row_chunks.h"

namespace autoglm {

// What NormParams say of a norm without residual and gathered rows; stages are copied, so they are short.
struct InputNorm {
  explicit InputNorm(const NormParams& params)
      : in(params.in.data),
        row_stride(params.in.row_stride),
        weight(params.weight),
        bias(params.bias),
        num_rows(static_cast<int32_t>(output_rows(params.out, params.quantized))),
        num_cols(static_cast<int32_t>(params.in.num_cols)),
        epsilon(params.epsilon),
        kind(params.kind),
        has_unit_offset(params.has_unit_offset),
        is_int8(params.quantized.is_present()) {}

  const float* in;
  int64_t row_stride;
  const float* weight;
  const float* bias;
  int32_t num_rows;
  int32_t num_cols;
  float epsilon;
  NormKind kind;
  bool has_unit_offset;
  bool is_int8;

  // In a thread's prepared memory: floats, or int8 values and their groups behind them.
  TensorView<float> values(std::byte* prepared) const {
    if (is_int8) return {};
    return {reinterpret_cast<float*>(prepared), num_rows, num_cols};
  }
  QuantizedRows quantized(std::byte* prepared) const {
    if (!is_int8) return {};
    return {reinterpret_cast<int8_t*>(prepared),
            reinterpret_cast<ActivationGroup*>(prepared + int64_t{num_rows} * num_cols), num_rows, num_cols,
            num_cols};
  }
  size_t num_bytes() const {
    const auto num_values = static_cast<size_t>(num_rows) * static_cast<size_t>(num_cols);
    return is_int8 ? num_values + num_values / kGroup * sizeof(ActivationGroup) : num_values * sizeof(float);
  }
};

// A product's chunks, as `run_chunks` takes them, whose input is what the norm gives: Chunks has
//   void set_input(TensorView<const float>, const QuantizedRows&)
template <typename Chunks>
struct NormedChunks {
  Chunks chunks;
  InputNorm norm;
  decltype(cpu::KernelTable::norm) kernel;

  void prepare(std::byte* prepared) const {
    kernel({.kind = norm.kind,
            .epsilon = norm.epsilon,
            .has_unit_offset = norm.has_unit_offset,
            .in = {norm.in, norm.num_rows, norm.num_cols, norm.row_stride},
            .weight = norm.weight,
            .bias = norm.bias,
            .residual = {},
            .out = norm.values(prepared),
            .quantized = norm.quantized(prepared)},
           0, norm.num_rows);
  }
  void compute(int64_t chunk, std::byte* memory) const {
    std::byte* const prepared = memory + ThreadPool::kReplayBytes;
    Chunks here = chunks;
    here.set_input(norm.values(prepared), norm.quantized(prepared));
    here.compute(chunk, memory);
  }
  void commit(int64_t chunk, const std::byte* memory) const { chunks.commit(chunk, memory); }
};

// Queues a norm and the chunks of the product that reads what it gives: in one stage where the norm would be
// the work of a single thread, and then its outputs are not written.
template <typename Chunks>
void run_normed_chunks(const Execution& execution, const NormParams& params, const PanelCut& cut,
                       int64_t kept_bytes, const Chunks& chunks) {
  const bool gives_one = params.out.is_present() != params.quantized.is_present();
  const bool is_plain = !params.residual.is_present() && params.input_rows == nullptr;
  const bool is_short = rows_per_chunk(execution, cut.num_rows, params.in.num_cols) >= cut.num_rows;
  const InputNorm input(params);
  if (gives_one && is_plain && is_short && input.num_bytes() <= ThreadPool::kPreparedBytes &&
      is_replayable(execution, cut, kept_bytes)) {
    check_norm(params);
    const NormedChunks<Chunks> normed{chunks, input, execution.kernels().norm};
    return execution.run_replayable(cut.num_chunks(), normed);
  }
  norm(execution, params);
  run_chunks(execution, cut, kept_bytes, chunks);
}

}  // namespace autoglm
