// route: the num_chosen best experts of each row and their weights
// Shapes and formulas: RouteArgs, RouteParams in base/expert_params.h.
// Needs:    has_route(), top_groups * (num_experts / num_groups) >= num_chosen.
// Rounding: f32; sums over lanes in an order that the number of experts alone decides.
// Cost:     latency bound: two warp reductions for each chosen expert, 4 bytes read per expert.
// Twin:     ops/route.cpp.
#include "cuda/experts/route_row.cuh"

namespace autoglm::cuda {
namespace {

// One warp per row.
template <int kSlots>
__device__ void route_rows(const RouteArgs& args) {
  auto& storage = shared_storage<RouteStorage<kSlots>>();
  const int warp = thread_x() / kWarpSize;
  const int64_t row = int64_t{block_x()} * kRouteWarps + warp;
  if (row < args.num_rows) route_row<kSlots>(args, row, storage.rows[warp]);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kRouteWarps* autoglm::cuda::kWarpSize)
    route_128(const __grid_constant__ autoglm::cuda::RouteArgs args) {
  autoglm::cuda::route_rows<4>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kRouteWarps* autoglm::cuda::kWarpSize)
    route_256(const __grid_constant__ autoglm::cuda::RouteArgs args) {
  autoglm::cuda::route_rows<8>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kRouteWarps* autoglm::cuda::kWarpSize)
    route_512(const __grid_constant__ autoglm::cuda::RouteArgs args) {
  autoglm::cuda::route_rows<16>(args);
}
