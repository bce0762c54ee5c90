// route few: route, then expert pairs, for at most 32 rows in one launch of one block
// Shapes:   RouteFewArgs.
// Needs:    what both parts need.
// Cost:     latency bound; saves a decode step one launch a layer.
// Twin:     ops/route.cpp.
#include "cuda/experts/pair_order.cuh"
#include "cuda/experts/route_few.h"
#include "cuda/experts/route_row.cuh"

namespace autoglm::cuda {
namespace {

template <int kSlots>
__device__ void route_and_order(const RouteFewArgs& args) {
  auto& storage = shared_storage<RouteFewStorage<kSlots>>();
  const int warp = thread_x() / kWarpSize;
  for (int row = warp; row < args.route.num_rows; row += kPairWarps) {
    route_row<kSlots>(args.route, row, storage.rows[warp]);
  }
  // The block has waited for all choices before it reads any: see mark_rows.
  order_pairs<1>(args.pairs, storage.pairs);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kPairThreads)
    route_few_128(const __grid_constant__ autoglm::cuda::RouteFewArgs args) {
  autoglm::cuda::route_and_order<4>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kPairThreads)
    route_few_256(const __grid_constant__ autoglm::cuda::RouteFewArgs args) {
  autoglm::cuda::route_and_order<8>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kPairThreads)
    route_few_512(const __grid_constant__ autoglm::cuda::RouteFewArgs args) {
  autoglm::cuda::route_and_order<16>(args);
}
