// Arguments and launches of the low-rank additions (LoRA) to a product, for the rows that have an adapter.
//
//   low[r, j]                 = sum over i of a[j, i] * in[r, i]                     lora_shrink
//   out[r, first_col + c]    += scale * part.scale * sum over j of b[c, j] * low[r, j]   lora_expand
//
// One launch of each serves all adapters of a step and all parts of a product. q, k and v are three parts of
// one stacked output. For gate and up the product runs with the plain epilogue to floats, whose columns are
// interleaved as the weights' rows (gated_row); lora_expand finds them by `gated_cols`, and activate.h then
// makes act(gate) * up. Without an adapter in the step the gated epilogue does it all.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/bf16.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kLoraRows = 16;  // of a run, at most

// Ranks are filled up to a multiple of 8 with rows of zeros in a and columns of zeros in b.
struct LoraPart {
  const Bf16* b = nullptr;  // [num_cols][rank], 16-byte aligned
  int32_t first_col = 0;    // of the product's output, as the CPU numbers it: gate before up
  int32_t num_cols = 0;
  int32_t first_low = 0;  // where the part's rows of `a` begin
  int32_t rank = 0;
  float scale = 1;
};

// What one adapter adds to one product.
struct LoraAdapter {
  const Bf16* a = nullptr;  // [rank][k], the parts' one after the other, 16-byte aligned
  int32_t rank = 0;         // of all parts together; 0 where it leaves the product alone
  int32_t first_part = 0;   // in LoraArgs::parts
  int32_t num_parts = 0;
};

// Rows [first_row, first_row + num_rows) of the step run through adapters[adapter].
struct LoraRun {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t adapter = 0;
};

struct LoraArgs {
  const LoraAdapter* adapters = nullptr;
  const LoraPart* parts = nullptr;
  const LoraRun* runs = nullptr;  // [num_runs], of at most kLoraRows rows each: cut_lora_runs
  const Bf16* in = nullptr;       // [rows, k]
  float* low = nullptr;           // workspace [rows, max_rank]
  float* out = nullptr;           // [rows, out columns]
  int64_t in_stride = 0;          // elements, a multiple of 8
  int64_t out_stride = 0;
  int32_t num_runs = 0;
  int32_t k = 0;           // a multiple of 8
  int32_t num_cols = 0;    // of the product's output
  int32_t max_rank = 0;    // the largest LoraAdapter::rank, a multiple of 8
  int32_t gated_cols = 0;  // gate's columns, where those of gate and up are interleaved; else 0
  float scale = 1;
};

// Longer runs in pieces of kLoraRows rows; empty ones are left out.
std::vector<LoraRun> cut_lora_runs(std::span<const LoraRun> runs);

LaunchShape lora_shrink_launch(const LoraArgs& args);
LaunchShape lora_expand_launch(const LoraArgs& args);

}  // namespace autoglm::cuda
