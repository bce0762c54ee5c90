#include "model/experts.h"

#include <algorithm>

#include "base/checked.h"
#include "model/linear_product.h"
#include "ops/activation.h"
#include "ops/combine.h"
#include "ops/gather_rows.h"
#include "ops/grouped_matmul.h"
#include "ops/matmul.h"

namespace autoglm {
namespace {

void widen_to(int64_t& width, int64_t cols, bool is_needed = true) {
  if (is_needed) width = std::max(width, cols);
}

Activations rows_of(const Activations& all, int64_t first, int64_t count) {
  Activations rows;
  if (all.values.is_present()) rows.values = all.values.rows(first, count);
  if (all.quantized.is_present()) rows.quantized = all.quantized.rows(first, count);
  return rows;
}

void activate_gated(const Execution& execution, Activation activation, TensorView<float> gate_up,
                    const Activations& out) {
  const int64_t cols = gate_up.num_cols / 2;
  activate(execution, {.activation = activation,
                       .gate = gate_up.columns(0, cols),
                       .up = gate_up.columns(cols, cols),
                       .out = out.values,
                       .quantized = out.quantized});
}

}  // namespace

size_t Experts::add_layer(const MoeSpec& moe, const MoeWeights& weights, int64_t hidden_size) {
  const auto any = [&](const auto& is_so) { return std::ranges::any_of(weights.experts, is_so); };
  const bool gate_up_takes_int8 = any([](const ExpertWeights& each) { return each.gate_up.needs_int8(); });
  const Layer layer{
      .moe = &moe,
      .weights = &weights,
      .needs_int8 = gate_up_takes_int8 || weights.shared.gate_up.needs_int8(),
      .gate_up_takes_float = any([](const ExpertWeights& each) { return each.gate_up.needs_float(); }),
      .gate_up_takes_int8 = gate_up_takes_int8,
      .down_takes_float = any([](const ExpertWeights& each) { return !each.down.matrix.takes_int8(); }),
      .down_takes_int8 = any([](const ExpertWeights& each) { return each.down.matrix.takes_int8(); })};
  layers_.push_back(layer);
  widen_to(widths_.router, moe.num_experts + 1);
  widen_to(widths_.hidden, hidden_size);
  widen_to(widths_.num_chosen, moe.num_experts_per_token);
  widen_to(widths_.float_gathered, hidden_size, layer.gate_up_takes_float);
  widen_to(widths_.int8_gathered, hidden_size, layer.gate_up_takes_int8);
  widen_to(widths_.gate_up, 2 * moe.intermediate_size);
  widen_to(widths_.float_activated, moe.intermediate_size, layer.down_takes_float);
  widen_to(widths_.int8_activated, moe.intermediate_size, layer.down_takes_int8);
  const bool shared_takes_int8 = weights.shared.down.matrix.takes_int8();
  widen_to(widths_.shared_hidden, hidden_size, layer.has_shared());
  widen_to(widths_.shared_gate_up, 2 * moe.shared_intermediate_size);
  widen_to(widths_.float_shared, moe.shared_intermediate_size, !shared_takes_int8);
  widen_to(widths_.int8_shared, moe.shared_intermediate_size, shared_takes_int8);
  return layers_.size() - 1;
}

void Experts::reserve(ScratchAllocator& allocator, int64_t max_rows) {
  if (layers_.empty()) return;
  const int64_t max_pairs = checked_mul(max_rows, widths_.num_chosen, "rows of the experts");
  logits_.reserve(allocator, max_rows, widths_.router);
  weights_.reserve(allocator, max_rows, widths_.num_chosen);
  gathered_.reserve(allocator, max_pairs, widths_.float_gathered, widths_.int8_gathered);
  gate_up_.reserve(allocator, max_pairs, widths_.gate_up);
  activated_.reserve(allocator, max_pairs, widths_.float_activated, widths_.int8_activated);
  down_.reserve(allocator, max_pairs, widths_.hidden);
  shared_gate_up_.reserve(allocator, max_rows, widths_.shared_gate_up);
  shared_activated_.reserve(allocator, max_rows, widths_.float_shared, widths_.int8_shared);
  shared_down_.reserve(allocator, max_rows, widths_.shared_hidden);
}

void Experts::run(const Execution& execution, size_t layer_idx, const Activations& in,
                  const SublayerOutput& output) {
  const Layer& layer = layers_[layer_idx];
  const MoeSpec& moe = *layer.moe;
  num_rows_ = output.out.num_rows;
  choose(execution, layer, in);
  run_gate_up(execution, layer, in);
  const Activations activated = activate_pairs(execution, layer);
  const Activations shared = layer.has_shared() ? activate_shared(execution, layer) : Activations();
  run_down(execution, layer, activated, shared);
  const int64_t hidden_size = output.out.num_cols;
  CombineParams combine{.in = down_.view(pairs_.count(), hidden_size),
                        .pairs = pairs_.of_rows(),
                        .weights = weights_.view(num_rows_, moe.num_experts_per_token),
                        .shared = {},
                        .shared_gate = {},
                        .residual = output.residual,
                        .scale = output.scale,
                        .out = output.out};
  if (layer.has_shared()) combine.shared = shared_down_.view(num_rows_, hidden_size);
  if (moe.has_shared_gate) {
    combine.shared_gate = logits_.view(num_rows_, moe.num_experts + 1).columns(moe.num_experts, 1);
  }
  combine_experts(execution, combine);
}

// Which experts each row runs through.
void Experts::choose(const Execution& execution, const Layer& layer, const Activations& in) {
  const MoeSpec& moe = *layer.moe;
  const TensorView<float> logits = logits_.view(num_rows_, moe.num_experts + (moe.has_shared_gate ? 1 : 0));
  for_parts(layer.weights->router, in, logits,
            [&](const MatmulParams& params) { matmul(execution, params); });
  chosen_.resize(static_cast<size_t>(num_rows_ * moe.num_experts_per_token));
  const TensorView<int32_t> chosen(chosen_.data(), num_rows_, moe.num_experts_per_token);
  route(execution, {.score = moe.router.score,
                    .logits = logits.columns(0, moe.num_experts),
                    .correction = layer.weights->correction,
                    .num_groups = moe.router.num_groups,
                    .top_groups = moe.router.top_groups,
                    .num_chosen = moe.num_experts_per_token,
                    .normalizes = moe.router.normalizes_top_k,
                    .scale = moe.router.scale,
                    .experts = chosen,
                    .weights = weights_.view(num_rows_, moe.num_experts_per_token)});
  execution.finish();  // the choice decides what comes next
  pairs_.build(chosen, moe.num_experts);
}

// The hidden state of each pair. One row alone is every pair's, and is read where it is.
Activations Experts::gather(const Execution& execution, const Layer& layer, const Activations& in) {
  if (num_rows_ == 1) return in;
  const Activations gathered =
      gathered_.view(pairs_.count(), in.values.num_cols, layer.gate_up_takes_float, layer.gate_up_takes_int8);
  if (layer.gate_up_takes_float) gather_rows(execution, pairs_.rows(), in.values, gathered.values);
  if (layer.gate_up_takes_int8) gather_rows(execution, pairs_.rows(), in.quantized, gathered.quantized);
  return gathered;
}

void Experts::run_gate_up(const Execution& execution, const Layer& layer, const Activations& in) {
  const MoeSpec& moe = *layer.moe;
  const Activations gathered = gather(execution, layer, in);
  const TensorView<float> gate_up = gate_up_.view(pairs_.count(), 2 * moe.intermediate_size);
  const auto add = [&](const MatmulParams& params) { products_.push_back(params); };
  products_.clear();
  for (int64_t expert = 0; expert < moe.num_experts; ++expert) {
    const int64_t first = pairs_.first_of(expert);
    const int64_t count = pairs_.first_of(expert + 1) - first;
    if (count == 0) continue;
    const Activations rows = num_rows_ == 1 ? gathered : rows_of(gathered, first, count);
    for_parts(layer.weights->experts[static_cast<size_t>(expert)].gate_up, rows, gate_up.rows(first, count),
              add);
  }
  if (layer.has_shared()) {
    for_parts(layer.weights->shared.gate_up, in,
              shared_gate_up_.view(num_rows_, 2 * moe.shared_intermediate_size), add);
  }
  grouped_matmul(execution, products_);
}

Activations Experts::activate_pairs(const Execution& execution, const Layer& layer) {
  const int64_t cols = layer.moe->intermediate_size;
  const Activations out =
      activated_.view(pairs_.count(), cols, layer.down_takes_float, layer.down_takes_int8);
  activate_gated(execution, layer.moe->activation, gate_up_.view(pairs_.count(), 2 * cols), out);
  return out;
}

Activations Experts::activate_shared(const Execution& execution, const Layer& layer) {
  const int64_t cols = layer.moe->shared_intermediate_size;
  const bool is_int8 = layer.weights->shared.down.matrix.takes_int8();
  const Activations out = shared_activated_.view(num_rows_, cols, !is_int8, is_int8);
  activate_gated(execution, layer.moe->activation, shared_gate_up_.view(num_rows_, 2 * cols), out);
  return out;
}

void Experts::run_down(const Execution& execution, const Layer& layer, const Activations& activated,
                       const Activations& shared) {
  const MoeWeights& weights = *layer.weights;
  products_.clear();
  for (int64_t expert = 0; expert < layer.moe->num_experts; ++expert) {
    const int64_t first = pairs_.first_of(expert);
    const int64_t count = pairs_.first_of(expert + 1) - first;
    if (count == 0) continue;
    const Linear& down = weights.experts[static_cast<size_t>(expert)].down;
    const TensorView<float> out = down_.view(pairs_.count(), down.matrix.n).rows(first, count);
    products_.push_back(product(down, rows_of(activated, first, count), out));
  }
  if (layer.has_shared()) {
    const Linear& down = weights.shared.down;
    products_.push_back(product(down, shared, shared_down_.view(num_rows_, down.matrix.n)));
  }
  grouped_matmul(execution, products_);
}

}  // namespace autoglm
