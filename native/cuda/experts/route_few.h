// Arguments and launch of route_few.cu: the choice of experts and the order of pairs in one launch.
#pragma once

#include "cuda/experts/expert_pairs.h"
#include "cuda/experts/route.h"

namespace autoglm::cuda {

inline constexpr int kFewRows = 32;  // bits of the word that holds an expert's rows

// The same results as route, then expert_pairs. Both parts have the same sizes, and pairs.experts is what
// route.experts names.
struct RouteFewArgs {
  RouteArgs route;  // at most kFewRows rows
  ExpertPairArgs pairs;
};

LaunchShape route_few_launch(const RouteFewArgs& args);

}  // namespace autoglm::cuda
