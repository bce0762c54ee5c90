#include "cuda/pooling/pool_rows.h"

namespace autoglm::cuda {

LaunchShape pool_rows_launch(const PoolArgs& args) {
  if (args.num_work == 0) return {};
  constexpr int64_t kThreads = 64;
  return {.kernel = "pool_rows",
          .grid_x = static_cast<unsigned>(ceil_div(args.hidden_size, kThreads)),
          .grid_y = static_cast<unsigned>(args.num_work),
          .num_threads = kThreads};
}

}  // namespace autoglm::cuda
