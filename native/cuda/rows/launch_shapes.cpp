#include "cuda/rows/embedding.h"
#include "cuda/rows/kv_append.h"
#include "cuda/rows/norm.h"
#include "cuda/rows/rope_angles.h"

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
          .grid_y = static_cast<unsigned>(ceil_div(args.num_heads(), kHeadsPerBlock)),
          .num_threads = 128,
          .shared_bytes = kHeadsPerBlock * kMaxAppendedDim * sizeof(float)};
}

LaunchShape embedding_launch(const EmbeddingArgs& args) {
  if (args.num_rows == 0) return {};
  return {.kernel = "embedding_gather", .grid_x = static_cast<unsigned>(args.num_rows), .num_threads = 128};
}

LaunchShape rope_angles_launch(const RopeAnglesArgs& args) {
  constexpr int64_t kThreads = 128;
  const int64_t grid_size = ceil_div(int64_t{args.num_rows} * args.num_pairs, kThreads);
  if (grid_size == 0) return {};
  return {.kernel = "rope_angles", .grid_x = static_cast<unsigned>(grid_size), .num_threads = kThreads};
}

}  // namespace autoglm::cuda
