#include "model/latent_attention.h"

#include <algorithm>

#include "base/error.h"
#include "model/linear_product.h"
#include "ops/copy_heads.h"
#include "ops/grouped_matmul.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/quantize_rows.h"

namespace autoglm {
namespace {

bool any_takes_int8(const std::vector<Linear>& heads) {
  return std::ranges::any_of(heads, [](const Linear& each) { return each.matrix.takes_int8(); });
}

// Columns of one head of activations that hold all heads.
Activations columns_of(const Activations& all, int64_t first, int64_t count) {
  Activations head;
  if (all.values.is_present()) head.values = all.values.columns(first, count);
  if (all.quantized.is_present()) head.quantized = all.quantized.columns(first, count);
  return head;
}

void widen_to(int64_t& width, int64_t cols, bool is_needed = true) {
  if (is_needed) width = std::max(width, cols);
}

}  // namespace

size_t LatentAttention::add_layer(const AttentionSpec& attention, const LatentWeights& weights,
                                  const Linear& output) {
  const Layer layer{.attention = &attention,
                    .weights = &weights,
                    .k_takes_int8 = any_takes_int8(weights.k_b),
                    .v_takes_int8 = any_takes_int8(weights.v_b),
                    .output_takes_int8 = output.matrix.takes_int8()};
  const LatentSpec& spec = layer.spec();
  if (layer.k_takes_int8 && layer.head_cols() % kGroup != 0) {
    throw Error(ErrorCode::unsupported_model,
                "latent attention with quantized heads needs query heads of a multiple of 32 dims, got " +
                    std::to_string(layer.head_cols()));
  }
  layers_.push_back(layer);
  const int64_t num_heads = layer.num_heads();
  const bool is_low_rank = spec.query_rank.has_value();
  const bool query_takes_int8 = weights.q_b.matrix.takes_int8();
  widen_to(widths_.down, layer.query_cols() + spec.rope_dim + spec.rank);
  widen_to(widths_.float_query, layer.query_cols(), is_low_rank && !query_takes_int8);
  widen_to(widths_.int8_query, layer.query_cols(), is_low_rank && query_takes_int8);
  widen_to(widths_.heads, num_heads * layer.head_cols(), is_low_rank);
  widen_to(widths_.int8_heads, num_heads * layer.head_cols(), layer.k_takes_int8);
  widen_to(widths_.q, num_heads * (spec.rope_dim + spec.rank));
  widen_to(widths_.float_attended, num_heads * spec.rank, !layer.v_takes_int8);
  widen_to(widths_.int8_attended, num_heads * spec.rank, layer.v_takes_int8);
  widen_to(widths_.expanded, num_heads * spec.output_dim);
  widen_to(widths_.int8_expanded, num_heads * spec.output_dim, layer.output_takes_int8);
  return layers_.size() - 1;
}

void LatentAttention::reserve(ScratchAllocator& allocator, int64_t max_rows) {
  if (layers_.empty()) return;
  down_.reserve(allocator, max_rows, widths_.down);
  query_.reserve(allocator, max_rows, widths_.float_query, widths_.int8_query);
  heads_.reserve(allocator, max_rows, widths_.heads);
  heads_int8_.reserve(allocator, max_rows, 0, widths_.int8_heads);
  q_.reserve(allocator, max_rows, widths_.q);
  attended_.reserve(allocator, max_rows, widths_.float_attended, widths_.int8_attended);
  expanded_.reserve(allocator, max_rows, widths_.expanded, widths_.int8_expanded);
}

LatentAttention::Projected LatentAttention::project(const Execution& execution, size_t layer_idx,
                                                    int64_t num_rows, const Activations& in) {
  const Layer& layer = layers_[layer_idx];
  const LatentSpec& spec = layer.spec();
  const int64_t kv_cols = spec.rope_dim + spec.rank;
  const TensorView<float> down = down_.view(num_rows, layer.query_cols() + kv_cols);
  for_parts(layer.weights->down, in, down, [&](const MatmulParams& params) { matmul(execution, params); });

  Activations heads;
  heads.values = query_heads(execution, layer, down);
  if (layer.k_takes_int8) {
    heads.quantized = heads_int8_.view(num_rows, heads.values.num_cols, false, true).quantized;
    quantize_rows(execution, heads.values, heads.quantized);
  }
  const TensorView<float> q = q_.view(num_rows, layer.num_heads() * kv_cols);
  copy_heads(execution, {.num_heads = layer.num_heads(),
                         .first = spec.nope_dim,
                         .count = spec.rope_dim,
                         .in = heads.values,
                         .out = q});
  products_.clear();
  for (int64_t head = 0; head < layer.num_heads(); ++head) {
    const Activations part = columns_of(heads, head * layer.head_cols(), spec.nope_dim);
    products_.push_back(product(layer.weights->k_b[static_cast<size_t>(head)], part,
                                q.columns(head * kv_cols + spec.rope_dim, spec.rank)));
  }
  grouped_matmul(execution, products_);
  return {q, down.columns(layer.query_cols(), kv_cols)};
}

// [rows, heads * (nope + rope)].
TensorView<float> LatentAttention::query_heads(const Execution& execution, const Layer& layer,
                                               TensorView<float> down) {
  const LatentSpec& spec = layer.spec();
  if (!spec.query_rank) return down.columns(0, layer.query_cols());
  const bool is_int8 = layer.weights->q_b.matrix.takes_int8();
  const Activations query = query_.view(down.num_rows, layer.query_cols(), !is_int8, is_int8);
  norm(execution, {.kind = spec.norm.kind,
                   .epsilon = spec.norm.epsilon,
                   .has_unit_offset = spec.norm.has_unit_offset,
                   .in = down.columns(0, layer.query_cols()),
                   .weight = layer.weights->q_norm.weight,
                   .bias = layer.weights->q_norm.bias,
                   .residual = {},
                   .out = query.values,
                   .quantized = query.quantized});
  const TensorView<float> heads = heads_.view(down.num_rows, layer.num_heads() * layer.head_cols());
  matmul(execution, product(layer.weights->q_b, query, heads));
  return heads;
}

Activations LatentAttention::attended(size_t layer_idx, int64_t num_rows) const {
  const Layer& layer = layers_[layer_idx];
  return attended_.view(num_rows, layer.num_heads() * layer.spec().rank, !layer.v_takes_int8,
                        layer.v_takes_int8);
}

Activations LatentAttention::expand(const Execution& execution, size_t layer_idx, int64_t num_rows) {
  const Layer& layer = layers_[layer_idx];
  const LatentSpec& spec = layer.spec();
  const Activations latents = attended(layer_idx, num_rows);
  const Activations out =
      expanded_.view(num_rows, layer.num_heads() * spec.output_dim, true, layer.output_takes_int8);
  products_.clear();
  for (int64_t head = 0; head < layer.num_heads(); ++head) {
    products_.push_back(product(layer.weights->v_b[static_cast<size_t>(head)],
                                columns_of(latents, head * spec.rank, spec.rank),
                                out.values.columns(head * spec.output_dim, spec.output_dim)));
  }
  grouped_matmul(execution, products_);
  if (layer.output_takes_int8) quantize_rows(execution, out.values, out.quantized);
  return out;
}

}  // namespace autoglm
