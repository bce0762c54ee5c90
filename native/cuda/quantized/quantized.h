// Products of bf16 activations with quantized weights (ProductArgs::w.layout w4 or w8).
//
// Constraints: w.k % 32 == 0, w.k % w.group == 0; group 16, 32, 64 or 128; w.weights, w.scales, w.mins and in
// 16-byte aligned, expert strides multiples of 16 bytes; gated: w.n % 16 == 0. Any n, row count and
// out_stride.
// Workspace: its first kQuantizedTicketBytes are zero before the first product, and after each. Products of
// any shapes may share one workspace, one after the other.
//
// The bits of a row depend on its own input alone, not on the number of rows nor on the tile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/product.h"
#include "cuda/quantized/stripe_plan.h"

namespace autoglm::cuda {

// Weights of one kernel: a scale is applied to the sum over scale_k of k.
struct QuantizedForm {
  int bits;
  int scale_k;  // 16, 32 or 64
  bool has_mins;
};

// A block multiplies row_warps panels of weights by token_warps * token_tiles * 8 rows of activations.
struct QuantizedTile {
  int row_warps;
  int token_warps;
  int token_tiles;  // of 8, for each warp
  bool is_always_striped;

  constexpr int tokens() const { return token_warps * token_tiles * 8; }
};
inline constexpr int kQuantizedThreads = 256;
// The last one is for many rows: its warps share weights, and it is never striped. Those of 32 and 64 rows
// lack the registers for whole sums beside those of a segment.
inline constexpr QuantizedTile kQuantizedTiles[] = {
    {8, 1, 1, false}, {8, 1, 2, false}, {8, 1, 4, true}, {8, 1, 8, true}, {4, 2, 8, false}};
inline constexpr int kNumQuantizedTiles = 5;
constexpr bool may_be_striped(const QuantizedTile& tile) { return tile.token_warps == 1; }

inline constexpr int32_t kQuantizedTickets = 256;  // as kGemmTickets: both may share a workspace
inline constexpr int64_t kQuantizedTicketBytes = int64_t{kQuantizedTickets} * 4;

struct QuantizedProblem {
  int32_t n = 0;
  int32_t k = 0;
  int32_t num_rows = 0;
  int32_t num_experts = 0;  // 0 for a dense product
};

constexpr QuantizedProblem problem_of(const ProductArgs& args) {
  return {args.w.n, args.w.k, args.num_rows,
          args.experts.first_pairs == nullptr ? 0 : args.experts.num_experts};
}

// Row tiles that a product may need: each expert has at most one that is not full.
constexpr int32_t max_row_tiles(const QuantizedProblem& problem, int32_t tokens) {
  if (problem.num_experts == 0) return static_cast<int32_t>(ceil_div(problem.num_rows, tokens));
  const int32_t started = problem.num_experts < problem.num_rows ? problem.num_experts : problem.num_rows;
  return static_cast<int32_t>((problem.num_rows + int64_t{started} * (tokens - 1)) / tokens);
}

inline constexpr int32_t kFewBlocks = 132;  // less than one for each multiprocessor of an H200

// True if blocks take stripes and merge their sums in the workspace, false if each block takes whole sums.
constexpr bool is_striped(const QuantizedProblem& problem, const QuantizedTile& tile) {
  const int64_t row_tiles = max_row_tiles(problem, tile.tokens());
  const StripePlan plan = stripes_of(problem.n, problem.k);
  if (!may_be_striped(tile) || row_tiles * plan.num_stripes > kQuantizedTickets) return false;
  return row_tiles == 1 || row_tiles * plan.num_bands < kFewBlocks;
}

constexpr bool may_take(const QuantizedProblem& problem, const QuantizedTile& tile) {
  return !tile.is_always_striped || is_striped(problem, tile);
}

// Number of a tile in kQuantizedTiles.
int choose_quantized_tile(const QuantizedProblem& problem);

LaunchShape quantized_launch(const ProductArgs& args);
// With another tile than the chosen one, if may_take(problem, tile).
LaunchShape quantized_launch(const ProductArgs& args, int tile);

// Enough for args.num_rows rows and for any fewer, 0 where no such product is striped.
size_t quantized_workspace_bytes(const ProductArgs& args);
// For one tile and this very number of rows.
size_t quantized_workspace_bytes(const ProductArgs& args, int tile);

}  // namespace autoglm::cuda
