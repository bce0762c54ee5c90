#include "cuda/heads/copy_heads.h"
#include "cuda/heads/heads_product.h"
#include "cuda/heads/heads_tile.h"

namespace autoglm::cuda {
namespace {

template <typename Tile>
LaunchShape product_launch(const HeadsProductArgs& args, const char* kernel) {
  return {.kernel = kernel,
          .grid_x = static_cast<unsigned>(args.num_heads * ceil_div(args.n, Tile::kCols)),
          .grid_y = static_cast<unsigned>(ceil_div(args.num_rows, Tile::kRows)),
          .num_threads = kHeadsThreads,
          .shared_bytes = sizeof(HeadsStorage<Tile>)};
}

bool is_aligned(const void* address, uintptr_t num_bytes) {
  return reinterpret_cast<uintptr_t>(address) % num_bytes == 0;
}

// Whether every vector of four columns lies where one access reads or writes it; absent pointers do.
bool goes_by_4(const CopyHeadsArgs& args) {
  const int64_t steps =
      args.in_row_stride | args.in_head_stride | args.out_row_stride | args.out_head_stride | args.count;
  return steps % 4 == 0 && is_aligned(args.in, 16) && is_aligned(args.out, 16) &&
         is_aligned(args.in_bf16, 8) && is_aligned(args.out_bf16, 8);
}

}  // namespace

LaunchShape heads_product_launch(const HeadsProductArgs& args) {
  if (args.num_rows == 0) return {};
  const bool is_f32 = args.in != nullptr;
  return args.num_rows <= kMaxFewRows
             ? product_launch<FewRows>(args, is_f32 ? "heads_product_few_f32" : "heads_product_few_bf16")
             : product_launch<ManyRows>(args, is_f32 ? "heads_product_many_f32" : "heads_product_many_bf16");
}

LaunchShape copy_heads_launch(const CopyHeadsArgs& args) {
  if (args.num_rows == 0 || args.count == 0) return {};
  constexpr int64_t kThreads = 128;
  const bool is_by_4 = goes_by_4(args);
  const int64_t num_vectors = int64_t{args.num_heads} * args.count / (is_by_4 ? 4 : 1);
  return {.kernel = is_by_4 ? "copy_heads_by_4" : "copy_heads_by_1",
          .grid_x = static_cast<unsigned>(args.num_rows),
          .grid_y = static_cast<unsigned>(ceil_div(num_vectors, kThreads)),
          .num_threads = kThreads};
}

}  // namespace autoglm::cuda
