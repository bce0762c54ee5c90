#include <algorithm>

#include "cuda/gemm/gemm.h"
#include "cuda/gemm/gemm_storage.h"

namespace autoglm::cuda {
namespace {

struct KernelShape {
  const char* name;      // with weights of bf16
  const char* f16_name;  // with weights of f16
  int32_t rows;
  int32_t cols;
  unsigned num_threads;
  size_t shared_bytes;
};

template <int kRows>
constexpr KernelShape gemv_shape(const char* name, const char* f16_name) {
  return {name,         f16_name,
          kRows,        kGemvWeightRows,
          kGemvThreads, (kGemvThreads / 32) * kRows * kGemvWeightRows * sizeof(float)};
}

template <typename Tile>
constexpr KernelShape tile_shape(const char* name, const char* f16_name) {
  static_assert(sizeof(GemmStorage<Tile>) <= 99 << 10);  // a block's most on sm_86, sm_89 and sm_120
  return {name, f16_name, Tile::kRows, Tile::kCols, Tile::kThreads, sizeof(GemmStorage<Tile>)};
}

// By the order of GemmVariant.
constexpr KernelShape kKernels[kNumGemmVariants] = {
    gemv_shape<1>("gemv_1", "gemv_1_f16"),
    gemv_shape<2>("gemv_2", "gemv_2_f16"),
    gemv_shape<4>("gemv_4", "gemv_4_f16"),
    tile_shape<Tile16x64>("gemm_16x64", "gemm_16x64_f16"),
    tile_shape<Tile32x64>("gemm_32x64", "gemm_32x64_f16"),
    tile_shape<Tile64x128>("gemm_64x128", "gemm_64x128_f16"),
    tile_shape<Tile128x128>("gemm_128x128", "gemm_128x128_f16"),
    tile_shape<Tile128x256>("gemm_128x256", "gemm_128x256_f16"),
};

constexpr const KernelShape& shape_of(GemmVariant variant) { return kKernels[static_cast<int>(variant)]; }

constexpr int64_t kMultiprocessors = 132;  // of an H200; A100 108, RTX 4090 128

struct LargeTile {
  GemmVariant variant;
  double speed;  // outputs per unit of time beside those of the largest: bytes of shared memory per product
};
constexpr LargeTile kLargeTiles[] = {
    {GemmVariant::tile_128x256, 1.0}, {GemmVariant::tile_128x128, 0.9}, {GemmVariant::tile_64x128, 0.7}};

// The tile with the shortest estimate: rounds of all multiprocessors, each as long as a tile takes.
GemmVariant choose_large(int64_t num_rows, int64_t n) {
  GemmVariant best = GemmVariant::tile_64x128;
  double shortest = 0;
  for (const LargeTile& each : kLargeTiles) {
    const KernelShape& shape = shape_of(each.variant);
    const int64_t tiles = ceil_div(num_rows, shape.rows) * ceil_div(n, shape.cols);
    const double time =
        static_cast<double>(ceil_div(tiles, kMultiprocessors) * shape.rows * shape.cols) / each.speed;
    if (shortest == 0 || time < shortest) {
      shortest = time;
      best = each.variant;
    }
  }
  return best;
}

}  // namespace

GemmVariant choose_gemm(const GemmProblem& problem) {
  const bool is_dense = problem.num_experts == 0;
  const int64_t rows = problem.num_rows;
  if (is_dense && rows <= kMaxGemvRows) {
    return rows == 1 ? GemmVariant::gemv_1 : rows == 2 ? GemmVariant::gemv_2 : GemmVariant::gemv_4;
  }
  // What an expert has of them on the average: tiles hold rows of one expert only.
  const int64_t rows_together = is_dense ? rows : ceil_div(rows, problem.num_experts);
  if (rows_together <= 16) return GemmVariant::tile_16x64;
  if (rows_together <= 32) return GemmVariant::tile_32x64;
  if (rows_together <= kMaxSplitRows) return GemmVariant::tile_64x128;
  return choose_large(rows, problem.n);
}

LaunchShape gemm_launch(const ProductArgs& args, GemmVariant variant) {
  if (args.num_rows == 0 || args.w.n == 0) return {};
  const KernelShape& shape = shape_of(variant);
  const bool is_dense = args.experts.first_pairs == nullptr;
  const int32_t num_experts = is_dense ? 0 : args.experts.num_experts;
  int64_t row_tiles = ceil_div(args.num_rows, shape.rows);
  if (!is_dense) row_tiles = args.num_rows / shape.rows + std::min(num_experts, args.num_rows);
  const bool is_split = variant >= GemmVariant::tile_16x64 && shape.rows <= 64;
  const KSplits splits = splits_of_product(args.w.n, args.w.k, args.num_rows, num_experts);
  return {.kernel = args.w.layout == DeviceLayout::f16 ? shape.f16_name : shape.name,
          .grid_x = static_cast<unsigned>(row_tiles * ceil_div(args.w.n, shape.cols)),
          .grid_y = is_split ? static_cast<unsigned>(splits.count) : 1,
          .num_threads = shape.num_threads,
          .shared_bytes = shape.shared_bytes};
}

LaunchShape gemm_launch(const ProductArgs& args) {
  const bool is_dense = args.experts.first_pairs == nullptr;
  return gemm_launch(args, choose_gemm({.n = args.w.n,
                                        .k = args.w.k,
                                        .num_rows = args.num_rows,
                                        .num_experts = is_dense ? 0 : args.experts.num_experts}));
}

size_t gemm_workspace_bytes(const ProductArgs& args) {
  const KSplits splits = splits_of_matrix(args.w.n, args.w.k);
  if (args.experts.first_pairs != nullptr || args.num_rows == 0 || splits.count == 1) return 0;
  const int64_t padded_rows = ceil_div(std::min(args.num_rows, kMaxSplitRows), 64) * 64;
  const int64_t padded_cols = ceil_div(args.w.n, 128) * 128;
  return static_cast<size_t>(kGemmTicketBytes +
                             splits.count * padded_rows * padded_cols * int64_t{sizeof(float)});
}

}  // namespace autoglm::cuda
