#include "cuda/experts/combine.h"
#include "cuda/experts/expert_pairs.h"
#include "cuda/experts/experts_storage.h"
#include "cuda/experts/route.h"
#include "cuda/experts/route_few.h"

namespace autoglm::cuda {
namespace {

// A kernel for rows of up to 32 * kSlots experts.
struct RouteKernel {
  int32_t num_experts;
  const char* rows;
  size_t rows_bytes;
  const char* few;
  size_t few_bytes;
};

constexpr RouteKernel kRouteKernels[] = {
    {128, "route_128", sizeof(RouteStorage<4>), "route_few_128", sizeof(RouteFewStorage<4>)},
    {256, "route_256", sizeof(RouteStorage<8>), "route_few_256", sizeof(RouteFewStorage<8>)},
    {kMaxExperts, "route_512", sizeof(RouteStorage<16>), "route_few_512", sizeof(RouteFewStorage<16>)},
};

const RouteKernel& route_kernel(int32_t num_experts) {
  const RouteKernel* kernel = kRouteKernels;
  while (num_experts > kernel->num_experts) ++kernel;
  return *kernel;
}

}  // namespace

LaunchShape route_launch(const RouteArgs& args) {
  if (args.num_rows == 0) return {};
  const RouteKernel& kernel = route_kernel(args.num_experts);
  return {.kernel = kernel.rows,
          .grid_x = static_cast<unsigned>(ceil_div(args.num_rows, kRouteWarps)),
          .num_threads = kRouteWarps * 32,
          .shared_bytes = kernel.rows_bytes};
}

LaunchShape route_few_launch(const RouteFewArgs& args) {
  if (args.route.num_rows == 0) return {};
  const RouteKernel& kernel = route_kernel(args.route.num_experts);
  return {.kernel = kernel.few, .num_threads = kPairThreads, .shared_bytes = kernel.few_bytes};
}

LaunchShape count_pairs_launch(const ExpertPairArgs& args) {
  if (args.num_rows <= kPairRows) return {};
  return {.kernel = "expert_pairs_count",
          .grid_x = static_cast<unsigned>(num_pair_chunks(args.num_rows)),
          .num_threads = kPairThreads,
          .shared_bytes = sizeof(PairStorage<kPairRows / 32>)};
}

LaunchShape place_pairs_launch(const ExpertPairArgs& args) {
  if (args.num_rows == 0) return {};
  const bool is_alone = args.num_rows <= kPairRows;
  return {.kernel = is_alone ? "expert_pairs_alone" : "expert_pairs_place",
          .grid_x = static_cast<unsigned>(num_pair_chunks(args.num_rows)),
          .num_threads = kPairThreads,
          .shared_bytes = sizeof(PairStorage<kPairRows / 32>)};
}

LaunchShape combine_launch(const CombineArgs& args) {
  if (args.num_rows == 0) return {};
  constexpr int64_t kThreads = 128;
  const bool is_by_4 = args.num_cols % 4 == 0;
  return {.kernel = is_by_4 ? "combine_by_4" : "combine_by_1",
          .grid_x = static_cast<unsigned>(args.num_rows),
          .grid_y = static_cast<unsigned>(ceil_div(args.num_cols, kThreads * (is_by_4 ? 4 : 1))),
          .num_threads = kThreads};
}

}  // namespace autoglm::cuda
