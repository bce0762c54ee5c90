// Launch of the products with float weights (ProductArgs::w.layout: bf16 or f16).
//
// Constraints: w.k % 8 == 0, k > 0; w.row_stride, in_stride % 8 == 0; w.weights and in 16-byte aligned;
// gated: w.n % 16 == 0. Any n, row count and out_stride. Workspace: gemm_workspace_bytes, the first
// kGemmTicketBytes (gemm_storage.h) of them zero before the first product. Products of any shapes may share
// one workspace, one after the other.
//
// Weights of f16: products of up to kMaxGemvRows rows multiply in f32. The others round the inputs to halves:
// off by at most 2^-25 below 2^-14 and saturated at +-65504, exact between; infinities become NaN.
//
// A row's bits depend on its own input within each family: up to kMaxGemvRows rows; from there to
// kMaxSplitRows (tile_order.h); more; and products of experts, whatever the number of rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/launch_shape.h"
#include "cuda/product.h"

namespace autoglm::cuda {

inline constexpr int32_t kMaxGemvRows = 4;  // above, tensor cores do the same in fewer instructions

struct GemmProblem {
  int32_t n = 0;
  int32_t k = 0;
  int32_t num_rows = 0;
  int32_t num_experts = 0;  // 0 for a dense product
};

enum class GemmVariant : uint8_t {
  gemv_1,
  gemv_2,
  gemv_4,
  tile_16x64,
  tile_32x64,
  tile_64x128,
  tile_128x128,
  tile_128x256
};
inline constexpr int kNumGemmVariants = 8;

GemmVariant choose_gemm(const GemmProblem& problem);

LaunchShape gemm_launch(const ProductArgs& args);
// With another variant than the chosen one: a gemv of at least num_rows rows and no experts, or any tile.
// Tiles of more than 64 rows do not split k.
LaunchShape gemm_launch(const ProductArgs& args, GemmVariant variant);

// Enough for args.num_rows rows and for any fewer, with any variant; 0 where no such product is split.
size_t gemm_workspace_bytes(const ProductArgs& args);

}  // namespace autoglm::cuda
