// Arguments and launch of route.cu.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kMaxExperts = 512;
inline constexpr int kMaxExpertGroups = 32;  // one per lane
inline constexpr int kMaxChosen = 32;

// Fields as in RouteParams (base/expert_params.h).
struct RouteArgs {
  const float* logits = nullptr;      // [num_rows, >= num_experts]
  const float* correction = nullptr;  // optional [num_experts]
  int32_t* experts = nullptr;         // [num_rows, num_chosen], ascending
  float* weights = nullptr;           // [num_rows, num_chosen]
  int64_t logits_stride = 0;          // floats from one row to the next
  int32_t num_rows = 0;
  int32_t num_experts = 0;
  int32_t num_groups = 1;
  int32_t top_groups = 1;
  int32_t num_chosen = 1;
  float scale = 1;
  RouterScore score = RouterScore::softmax;
  bool normalizes = false;
};

constexpr bool has_route(int64_t num_experts, int64_t num_groups, int64_t num_chosen) {
  return num_experts <= kMaxExperts && num_groups <= kMaxExpertGroups && num_chosen <= kMaxChosen;
}

LaunchShape route_launch(const RouteArgs& args);

}  // namespace autoglm::cuda
