#include "cuda/rows/embedding.h"
#include "cuda/rows/kv_append.h"
#include "cuda/rows/norm.h"

namespace autoglm::cuda {

LaunchShape norm_launch(const NormArgs& args) {
  if (args.num_rows == 0) return {};
  return {.kernel = args.num_cols % 4 == 0 ? "norm_by_4" : "norm_by_1",
          .grid_x = static_cast<unsigned>(args.num_rows),
          .num_threads = 256,
          .shared_bytes = 64};
}

LaunchShape kv_append_launch(const KvAppendArgs& args) {
  if (args.num_rows == 0) return {};
  constexpr int64_t kHeadsPerBlock = 4;
  return {.kernel = "kv_append",
          .grid_x = static_cast<unsigned>(args.num_rows),
          .grid_y = static_cast<unsigned>(ceil_div(args.num_q_heads + 2 * args.num_kv_heads, kHeadsPerBlock)),
          .num_threads = 128,
          .shared_bytes = 4096};
}

LaunchShape embedding_launch(const EmbeddingArgs& args) {
  if (args.num_rows == 0) return {};
  return {.kernel = "embedding_gather", .grid_x = static_cast<unsigned>(args.num_rows), .num_threads = 128};
}

}  // namespace autoglm::cuda
