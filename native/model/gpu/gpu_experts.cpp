// The mixture of experts of one layer on a GPU: as model/experts.h, but which rows each expert has is known
// to the device alone.
#include "cuda/experts/combine.h"
#include "cuda/experts/expert_pairs.h"
#include "cuda/experts/route.h"
#include "cuda/experts/route_few.h"
#include "model/gpu/gpu_decoder.h"

namespace autoglm::gpu {

void GpuDecoder::run_experts(size_t index) {
  const LayerSpec& layer = spec_.layers[index];
  const MoeSpec& moe = *layer.moe;
  const DeviceLayer& weights = weights_.layers[index];
  const auto num_chosen = static_cast<int32_t>(moe.num_experts_per_token);
  make_input(layer, weights.mlp_norm);
  choose_experts(moe, weights.moe);

  const int32_t num_pairs = step_->num_rows * num_chosen;
  const auto multiply_experts = [&](const DeviceExperts& experts, cuda::ProductArgs args) {
    args.w = experts.first;
    args.experts = experts.strides;
    args.experts.first_pairs = scratch_.first_pairs;
    args.workspace = scratch_.workspace;
    args.num_rows = num_pairs;
    launch(product_launch(args), args);
  };
  multiply_experts(weights.moe.gate_up, {.w = {},
                                         .in = scratch_.input,
                                         .input_rows = scratch_.pair_rows,
                                         .out_bf16 = scratch_.activated,
                                         .experts = {},
                                         .in_stride = spec_.hidden_size,
                                         .out_stride = moe.intermediate_size,
                                         .epilogue = cuda::Epilogue::gated,
                                         .activation = moe.activation});
  multiply_experts(weights.moe.down, {.w = {},
                                      .in = scratch_.activated,
                                      .out = scratch_.down,
                                      .experts = {},
                                      .in_stride = moe.intermediate_size,
                                      .out_stride = spec_.hidden_size});
  const bool has_shared = moe.shared_intermediate_size > 0;
  if (has_shared) run_shared_expert(moe, weights.moe);

  const AddedTo target = begin_add(layer);
  cuda::CombineArgs combine{.in = scratch_.down,
                            .pair_of = scratch_.pair_of,
                            .weights = scratch_.expert_weights,
                            .shared = has_shared ? scratch_.shared_down : nullptr,
                            .residual = target.residual,
                            .out = target.out,
                            .num_rows = step_->num_rows,
                            .num_cols = static_cast<int32_t>(spec_.hidden_size),
                            .num_chosen = num_chosen,
                            .scale = target.scale};
  if (moe.has_shared_gate) {
    combine.shared_gate = scratch_.router_logits + moe.num_experts;
    combine.gate_stride = moe.num_experts + 1;
  }
  launch(cuda::combine_launch(combine), combine);
  end_add(layer, weights.mlp_norm, weights.mlp_post_norm);
}

void GpuDecoder::choose_experts(const MoeSpec& moe, const DeviceMoe& weights) {
  const int64_t num_logits = moe.num_experts + (moe.has_shared_gate ? 1 : 0);
  multiply_stacked(weights.router, scratch_.input, scratch_.router_logits, num_logits);
  const auto num_experts = static_cast<int32_t>(moe.num_experts);
  const auto num_chosen = static_cast<int32_t>(moe.num_experts_per_token);
  const cuda::RouteArgs route{.logits = scratch_.router_logits,
                              .correction = weights.correction,
                              .experts = scratch_.experts,
                              .weights = scratch_.expert_weights,
                              .logits_stride = num_logits,
                              .num_rows = step_->num_rows,
                              .num_experts = num_experts,
                              .num_groups = static_cast<int32_t>(moe.router.num_groups),
                              .top_groups = static_cast<int32_t>(moe.router.top_groups),
                              .num_chosen = num_chosen,
                              .scale = moe.router.scale,
                              .score = moe.router.score,
                              .normalizes = moe.router.normalizes_top_k};
  const cuda::ExpertPairArgs pairs{.experts = scratch_.experts,
                                   .num_valid_rows = step_->num_valid_rows,
                                   .first_pairs = scratch_.first_pairs,
                                   .pair_rows = scratch_.pair_rows,
                                   .pair_of = scratch_.pair_of,
                                   .counts = scratch_.pair_counts,
                                   .num_rows = step_->num_rows,
                                   .num_chosen = num_chosen,
                                   .num_experts = num_experts};
  if (step_->num_rows <= cuda::kFewRows) {
    const cuda::RouteFewArgs both{.route = route, .pairs = pairs};
    launch(cuda::route_few_launch(both), both);
    return;
  }
  launch(cuda::route_launch(route), route);
  launch(cuda::count_pairs_launch(pairs), pairs);
  launch(cuda::place_pairs_launch(pairs), pairs);
}

// Every row runs through it.
void GpuDecoder::run_shared_expert(const MoeSpec& moe, const DeviceMoe& weights) {
  multiply(weights.shared_gate_up, {.w = {},
                                    .in = scratch_.input,
                                    .out_bf16 = scratch_.shared_activated,
                                    .experts = {},
                                    .in_stride = spec_.hidden_size,
                                    .out_stride = moe.shared_intermediate_size,
                                    .num_rows = step_->num_rows,
                                    .epilogue = cuda::Epilogue::gated,
                                    .activation = moe.activation});
  multiply(weights.shared_down, {.w = {},
                                 .in = scratch_.shared_activated,
                                 .out = scratch_.shared_down,
                                 .experts = {},
                                 .in_stride = moe.shared_intermediate_size,
                                 .out_stride = spec_.hidden_size,
                                 .num_rows = step_->num_rows});
}

}  // namespace autoglm::gpu
