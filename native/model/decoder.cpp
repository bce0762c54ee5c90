#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "model/linear_product.h"
#include "ops/activation.h"
#include "ops/embedding.h"
#include "ops/gated_matmul.h"
#include "ops/gather_rows.h"
#include "ops/kv_append.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/quantize_rows.h"

namespace autoglm {
namespace {

const RopeTable* rope_table_of(const DecoderSpec& spec, const AttentionSpec& attention) {
  return attention.rope_table ? &spec.rope_tables[static_cast<size_t>(*attention.rope_table)] : nullptr;
}

NormParams norm_params(const NormSpec& norm, const NormWeights& weights, TensorView<const float> in) {
  return {.kind = norm.kind,
          .epsilon = norm.epsilon,
          .has_unit_offset = norm.has_unit_offset,
          .in = in,
          .weight = weights.weight,
          .bias = weights.bias,
          .residual = {},
          .out = {},
          .quantized = {}};
}

}  // namespace

Decoder::Decoder(DecoderSpec spec, std::unique_ptr<DecoderWeights> weights, KvDtype kv_dtype,
                 int64_t max_step_tokens)
    : spec_(std::move(spec)),
      weights_(std::move(weights)),
      kv_dtype_(kv_dtype),
      head_(weights_->head),
      adapter_rows_(spec_, max_step_tokens),
      pooled_layers_(spec_, *weights_) {
  if (spec_.head && spec_.head->is_tied) head_.matrix = weights_->embedding;
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const LayerSpec& layer = spec_.layers[i];
    layer_geometries_.push_back(geometry_of(layer.attention));
    layer_experts_.push_back(
        layer.moe ? experts_.add_layer(*layer.moe, weights_->layers[i].moe, spec_.hidden_size) : 0);
    const LayerWeights& weights = weights_->layers[i];
    layer_latents_.push_back(
        layer.attention.latent ? latents_.add_layer(layer.attention, weights.latent, weights.o) : 0);
  }
  reserve_scratch(max_step_tokens);
  step_.reserve(max_step_tokens);
}

size_t Decoder::geometry_of(const AttentionSpec& attention) {
  const auto found = std::ranges::find_if(geometries_, [&](const AttentionGeometry& geometry) {
    return geometry.num_q_heads == attention.num_q_heads && geometry.num_kv_heads == attention.num_kv_heads &&
           geometry.value_dim == attention.value_dim;
  });
  if (found != geometries_.end()) return static_cast<size_t>(found - geometries_.begin());
  geometries_.push_back({attention.num_q_heads, attention.num_kv_heads, attention.value_dim, {}});
  return geometries_.size() - 1;
}

std::vector<int64_t> Decoder::page_bytes() const {
  std::vector<int64_t> result;
  for (const LayerSpec& layer : spec_.layers) {
    const KvPages pages{.dtype = kv_dtype_,
                        .num_kv_heads = layer.attention.num_kv_heads,
                        .head_dim = layer.attention.head_dim,
                        .value_dim = layer.attention.value_dim,
                        .is_latent = layer.attention.latent.has_value()};
    result.push_back(pages.page_bytes());
  }
  return result;
}

int64_t Decoder::num_row_rope_tables() const {
  int64_t last_used = 0;
  for (const LayerSpec& layer : spec_.layers) {
    last_used = std::max<int64_t>(last_used, layer.attention.rope_table.value_or(0));
  }
  return std::max<int64_t>(1, static_cast<int64_t>(spec_.rope_tables.size()) - last_used);
}

void Decoder::forward(const Execution& execution, std::span<const SequenceChunk> chunks,
                      const KvPool& kv_pool) {
  begin_step(execution, chunks);
  embed_tokens(execution);
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    run_attention(execution, i, kv_pool);
    if (num_rows_ == 0) return;
    if (spec_.layers[i].moe) {
      run_experts(execution, i);
    } else {
      run_mlp(execution, i);
    }
  }
}

void Decoder::begin_step(const Execution& execution, std::span<const SequenceChunk> chunks) {
  chunks_ = chunks;
  step_.begin(chunks);
  num_rows_ = step_.count();
  current_ = 0;
  adapter_rows_.begin_step();
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i].adapter == nullptr) continue;
    adapter_rows_.add_run(*chunks[i].adapter, step_.slices()[i].first_row, step_.slices()[i].count);
  }
  for (AttentionGeometry& geometry : geometries_) {
    geometry.plan.build(step_.slices(), geometry.num_q_heads, geometry.num_kv_heads, geometry.value_dim,
                        static_cast<int64_t>(attention_scratch_.size()), execution.num_threads());
  }
  append_plan_.build(step_.slices());
  compute_angles(execution, chunks);
}

// Angles of every rope table that a layer names, at each row's own table. Rows of one table are computed
// together.
void Decoder::compute_angles(const Execution& execution, std::span<const SequenceChunk> chunks) {
  const auto last_named = static_cast<int64_t>(angles_.size()) - num_row_rope_tables();
  for (int64_t table = 0; table <= last_named; ++table) {
    const int64_t rotary_dim = spec_.rope_tables[static_cast<size_t>(table)].rotary_dim;
    const TensorView<float> angles = angles_[static_cast<size_t>(table)].view(num_rows_, rotary_dim);
    size_t first = 0;
    while (first < chunks.size()) {
      size_t last = first + 1;
      while (last < chunks.size() && chunks[last].rope_table == chunks[first].rope_table) ++last;
      const int64_t first_row = step_.slices()[first].first_row;
      const int64_t end_row = last < chunks.size() ? step_.slices()[last].first_row : num_rows_;
      const RopeTable& used = spec_.rope_tables[static_cast<size_t>(table + chunks[first].rope_table)];
      const auto positions =
          step_.positions().subspan(static_cast<size_t>(first_row), static_cast<size_t>(end_row - first_row));
      compute_rope_angles(execution, positions, used.frequencies, used.attention_factor,
                          angles.rows(first_row, end_row - first_row));
      first = last;
    }
  }
}

void Decoder::embed_tokens(const Execution& execution) {
  embed(execution, {.table = weights_->embedding,
                    .ids = step_.tokens().data(),
                    .scale = spec_.embedding.scale,
                    .positions = weights_->position_embedding,
                    .position_ids = spec_.embedding.has_positions ? step_.positions().data() : nullptr,
                    .types = weights_->token_type_embedding,
                    .type_ids = spec_.embedding.num_token_types > 0 ? step_.token_types().data() : nullptr,
                    .out = residual()});
  if (!spec_.embedding.norm) return;
  NormParams params = norm_params(*spec_.embedding.norm, weights_->embedding_norm, residual());
  params.out = next_residual();
  norm(execution, params);
  current_ = 1 - current_;
}

void Decoder::run_attention(const Execution& execution, size_t layer_idx, const KvPool& kv_pool) {
  const LayerSpec& layer = spec_.layers[layer_idx];
  const AttentionSpec& attention_spec = layer.attention;
  if (attention_spec.latent) return run_latent_attention(execution, layer_idx, kv_pool);
  const LayerWeights& weights = weights_->layers[layer_idx];
  const int64_t num_q = attention_spec.q_cols();
  const int64_t num_k = attention_spec.k_cols();
  const int64_t num_v = attention_spec.v_cols();

  const SublayerInput input = begin_input(execution, layer, weights.attention_norm, weights.qkv.needs_float(),
                                          weights.qkv.needs_int8());
  const TensorView<float> qkv = qkv_.view(num_rows_, num_q + num_k + num_v);
  multiply_stacked(execution, weights.qkv, input, qkv);
  adapter_rows_.add(execution, layer_idx, Product::qkv, input.values.values, qkv, 1);

  KvAppendParams append{.q = qkv.columns(0, num_q),
                        .k = qkv.columns(num_q, num_k),
                        .v = qkv.columns(num_q + num_k, num_v),
                        .q_norm = weights.q_norm.weight,
                        .q_norm_bias = weights.q_norm.bias,
                        .k_norm = weights.k_norm.weight,
                        .k_norm_bias = weights.k_norm.bias,
                        .rope = {},
                        .q_out = {},
                        .kv = kv_pages(layer_idx, kv_pool)};
  if (attention_spec.qk_norm) {
    append.qk_norm_kind = attention_spec.qk_norm->kind;
    append.qk_norm_epsilon = attention_spec.qk_norm->epsilon;
    append.qk_norm_has_unit_offset = attention_spec.qk_norm->has_unit_offset;
  }
  const Activations attended = append_and_attend(execution, layer_idx, append);
  if (num_rows_ > 0) add_to_residual(execution, layer_idx, Product::o, attended);
}

void Decoder::run_latent_attention(const Execution& execution, size_t layer_idx, const KvPool& kv_pool) {
  const LayerSpec& layer = spec_.layers[layer_idx];
  const LatentSpec& latent = *layer.attention.latent;
  const LayerWeights& weights = weights_->layers[layer_idx];
  const size_t number = layer_latents_[layer_idx];

  const StackedLinear& down = weights.latent.down;
  const Activations input =
      make_input(execution, layer, weights.attention_norm, down.needs_float(), down.needs_int8());
  const auto [q, kv] = latents_.project(execution, number, num_rows_, input);
  KvAppendParams append{.q = q,
                        .k = kv,
                        .v = {},
                        .qk_norm_kind = latent.norm.kind,
                        .qk_norm_epsilon = latent.norm.epsilon,
                        .qk_norm_has_unit_offset = latent.norm.has_unit_offset,
                        .first_normed_k = latent.rope_dim,
                        .k_norm = weights.latent.kv_norm.weight,
                        .k_norm_bias = weights.latent.kv_norm.bias,
                        .rope = {},
                        .q_out = {},
                        .kv = kv_pages(layer_idx, kv_pool)};
  append_and_attend(execution, layer_idx, append);
  if (num_rows_ == 0) return;
  const Activations heads = latents_.expand(execution, number, num_rows_);
  add_to_residual(execution, layer_idx, Product::o, heads);
}

// Rotates queries and keys, stores the keys with their values, and attends. In the last layer only for the
// step's outputs, which from there on are all of its rows.
Activations Decoder::append_and_attend(const Execution& execution, size_t layer_idx, KvAppendParams& append) {
  const AttentionSpec& attention_spec = spec_.layers[layer_idx].attention;
  append.num_q_heads = attention_spec.num_q_heads;
  append.q_scale = query_scale(attention_spec.scale, attention_spec.soft_cap.value_or(0));
  append.q_out = rotated_q_.view(num_rows_, attention_spec.q_cols());
  const RopeTable* rope = rope_table_of(spec_, attention_spec);
  if (rope != nullptr) {
    append.rope_style = rope->style;
    append.rotary_dim = rope->rotary_dim;
    append.rope = angles_[static_cast<size_t>(*attention_spec.rope_table)].view(num_rows_, rope->rotary_dim);
  }
  append_kv(execution, append_plan_, append);
  const AttentionGeometry& geometry = geometries_[layer_geometries_[layer_idx]];
  const bool is_last = layer_idx + 1 == spec_.layers.size();
  const AttentionPlan& plan = is_last ? keep_outputs(execution, geometry) : geometry.plan;
  if (num_rows_ == 0) return {};
  const Activations attended = attended_view(layer_idx);
  attention(execution, plan,
            {.q = append.q_out,
             .num_q_heads = attention_spec.num_q_heads,
             .kv = append.kv,
             .is_causal = attention_spec.is_causal,
             .sliding_window = attention_spec.sliding_window.value_or(0),
             .soft_cap = attention_spec.soft_cap.value_or(0),
             .out = attended.values,
             .quantized = attended.quantized},
            attention_scratch_);
  return attended;
}

Activations Decoder::attended_view(size_t layer_idx) const {
  const AttentionSpec& attention_spec = spec_.layers[layer_idx].attention;
  if (attention_spec.latent) return latents_.attended(layer_latents_[layer_idx], num_rows_);
  const bool is_int8 = weights_->layers[layer_idx].o.matrix.takes_int8();
  Activations attended = attended_.view(num_rows_, attention_spec.attended_cols(), !is_int8, is_int8);
  adapter_rows_.require_floats(attended, num_rows_, attention_spec.attended_cols());
  return attended;
}

// Of the residual only the outputs' rows are left. Returns the plan of their attention.
const AttentionPlan& Decoder::keep_outputs(const Execution& execution, const AttentionGeometry& geometry) {
  const std::span<const int32_t> rows = step_.output_rows();
  if (static_cast<int64_t>(rows.size()) == num_rows_) return geometry.plan;
  const TensorView<const float> all_rows = residual();
  num_rows_ = static_cast<int64_t>(rows.size());
  if (num_rows_ == 0) return geometry.plan;
  gather_rows(execution, rows, all_rows, next_residual());
  current_ = 1 - current_;
  adapter_rows_.begin_step();
  int64_t first_row = 0;
  for (const SequenceChunk& chunk : chunks_) {
    const int64_t count = static_cast<int64_t>(chunk.tokens.size()) - chunk.num_unread;
    if (count > 0 && chunk.adapter != nullptr) adapter_rows_.add_run(*chunk.adapter, first_row, count);
    first_row += count;
  }
  output_plan_.build(step_.output_slices(), geometry.num_q_heads, geometry.num_kv_heads, geometry.value_dim,
                     static_cast<int64_t>(attention_scratch_.size()), execution.num_threads());
  return output_plan_;
}

void Decoder::run_mlp(const Execution& execution, size_t layer_idx) {
  const LayerSpec& layer = spec_.layers[layer_idx];
  const LayerWeights& weights = weights_->layers[layer_idx];
  const int64_t intermediate = layer.mlp.intermediate_size;

  const SublayerInput input = begin_input(execution, layer, weights.mlp_norm, weights.gate_up.needs_float(),
                                          weights.gate_up.needs_int8());
  const bool is_int8 = weights.down.matrix.takes_int8();
  Activations activated = activated_.view(num_rows_, intermediate, !is_int8, is_int8);
  adapter_rows_.require_floats(activated, num_rows_, intermediate);
  if (std::optional<GatedMatmulParams> gated = gated_product(weights.gate_up, layer.mlp, input.values);
      gated && !adapter_rows_.is_active()) {
    gated->out = activated.values;
    gated->quantized = activated.quantized;
    if (input.norm) {
      normed_gated_matmul(execution, *input.norm, *gated);
    } else {
      gated_matmul(execution, *gated);
    }
  } else {
    run_gate_up(execution, layer_idx, input, activated);
  }
  add_to_residual(execution, layer_idx, Product::down, activated);
}

// Product by product, for what `gated_matmul` cannot do: adapters, gate and up with different inputs.
void Decoder::run_gate_up(const Execution& execution, size_t layer_idx, const SublayerInput& input,
                          const Activations& activated) {
  const MlpSpec& mlp = spec_.layers[layer_idx].mlp;
  const TensorView<float> gate_up = gate_up_.view(num_rows_, mlp.gate_up_cols());
  multiply_stacked(execution, weights_->layers[layer_idx].gate_up, input, gate_up);
  adapter_rows_.add(execution, layer_idx, Product::gate_up, input.values.values, gate_up, 1);
  ActivationParams params{.activation = mlp.activation,
                          .gate = {},
                          .up = gate_up,
                          .out = activated.values,
                          .quantized = activated.quantized};
  if (mlp.is_gated) {
    params.gate = gate_up.columns(0, mlp.intermediate_size);
    params.up = gate_up.columns(mlp.intermediate_size, mlp.intermediate_size);
  }
  activate(execution, params);
}

void Decoder::run_experts(const Execution& execution, size_t layer_idx) {
  const LayerSpec& layer = spec_.layers[layer_idx];
  const LayerWeights& weights = weights_->layers[layer_idx];
  const size_t number = layer_experts_[layer_idx];
  const Activations input = make_input(execution, layer, weights.mlp_norm, true, experts_.needs_int8(number));
  experts_.run(execution, number, input, begin_add(layer));
  end_add(execution, layer, weights.mlp_norm, weights.mlp_post_norm);
}

// The normed hidden state, or, with norms behind the sub-layers, the hidden state as it is.
Decoder::SublayerInput Decoder::begin_input(const Execution& execution, const LayerSpec& layer,
                                            const NormWeights& norm_weights, bool needs_float,
                                            bool needs_int8) {
  Activations values = input_.view(num_rows_, spec_.hidden_size, needs_float, needs_int8);
  if (layer.norm_placement == NormPlacement::post) {
    values.values = residual();
    if (needs_int8) quantize_rows(execution, residual(), values.quantized);
    return {.values = values, .norm = std::nullopt};
  }
  adapter_rows_.require_floats(values, num_rows_, spec_.hidden_size);
  NormParams params = norm_params(layer.norm, norm_weights, residual());
  params.out = values.values;
  params.quantized = values.quantized;
  return {.values = values, .norm = params};
}

Activations Decoder::make_input(const Execution& execution, const LayerSpec& layer,
                                const NormWeights& norm_weights, bool needs_float, bool needs_int8) {
  const SublayerInput input = begin_input(execution, layer, norm_weights, needs_float, needs_int8);
  if (input.norm) norm(execution, *input.norm);
  return input.values;
}

// Adapters read the input, too, so its norm is then done apart.
void Decoder::multiply_stacked(const Execution& execution, const StackedLinear& stacked,
                               const SublayerInput& in, TensorView<float> out) const {
  if (in.norm && stacked.parts.size() == 1 && !adapter_rows_.is_active())
    return normed_matmul(execution, *in.norm, product(stacked.parts.front(), in.values, out));
  if (in.norm) norm(execution, *in.norm);
  for_parts(stacked, in.values, out, [&](const MatmulParams& params) { matmul(execution, params); });
}

// The last product of a sub-layer, `o` or `down`. Adapters add to what a norm behind the sub-layer then
// reads.
void Decoder::add_to_residual(const Execution& execution, size_t layer_idx, Product which,
                              const Activations& in) {
  const LayerSpec& layer = spec_.layers[layer_idx];
  const LayerWeights& weights = weights_->layers[layer_idx];
  const bool is_attention = which == Product::o;
  const Linear& linear = is_attention ? weights.o : weights.down;
  const SublayerOutput output = begin_add(layer);
  MatmulParams params = product(linear, in, output.out);
  params.residual = output.residual;
  params.scale = output.scale;
  matmul(execution, params);
  adapter_rows_.add(execution, layer_idx, which, in.values, output.out, output.scale);
  end_add(execution, layer, is_attention ? weights.attention_norm : weights.mlp_norm,
          is_attention ? weights.attention_post_norm : weights.mlp_post_norm);
}

// Where the last operation of a sub-layer writes, and what `end_add` does then: LayerSpec.normPlacement.
SublayerOutput Decoder::begin_add(const LayerSpec& layer) const {
  const TensorView<float> sublayer = sublayer_.view(num_rows_, spec_.hidden_size);
  switch (layer.norm_placement) {
    case NormPlacement::pre:
      return {.out = next_residual(), .residual = residual(), .scale = layer.residual_scale};
    case NormPlacement::post:
      return {.out = sublayer, .residual = residual(), .scale = layer.residual_scale};
    case NormPlacement::sandwich:
      break;
  }
  return {.out = sublayer, .residual = {}};
}

void Decoder::end_add(const Execution& execution, const LayerSpec& layer, const NormWeights& pre_weights,
                      const NormWeights& post_weights) {
  if (layer.norm_placement != NormPlacement::pre) {
    const TensorView<float> sublayer = sublayer_.view(num_rows_, spec_.hidden_size);
    const bool is_sandwich = layer.norm_placement == NormPlacement::sandwich;
    NormParams norm_after = norm_params(layer.norm, is_sandwich ? post_weights : pre_weights, sublayer);
    if (is_sandwich) {
      norm_after.residual = residual();
      norm_after.residual_scale = layer.residual_scale;
    }
    norm_after.out = next_residual();
    norm(execution, norm_after);
  }
  current_ = 1 - current_;
}

KvPages Decoder::kv_pages(size_t layer_idx, const KvPool& kv_pool) const {
  const AttentionSpec& attention_spec = spec_.layers[layer_idx].attention;
  KvPages pages{.dtype = kv_dtype_,
                .num_kv_heads = attention_spec.num_kv_heads,
                .head_dim = attention_spec.head_dim,
                .value_dim = attention_spec.value_dim,
                .is_latent = attention_spec.latent.has_value(),
                .data = kv_pool.layer(layer_idx),
                .num_pages = kv_pool.num_pages()};
  pages.page_stride = pages.page_bytes();
  return pages;
}

// The other residual buffer is free once the last layer has run.
TensorView<const float> Decoder::final_hidden(const Execution& execution) {
  if (!spec_.final_norm) return residual();
  NormParams params = norm_params(*spec_.final_norm, weights_->final_norm, residual());
  params.out = next_residual();
  norm(execution, params);
  return next_residual();
}

void Decoder::compute_logits(const Execution& execution, std::span<const int32_t> rows,
                             TensorView<float> out) {
  if (!spec_.head) throw Error(ErrorCode::internal, "logits of a model without a language head");
  const auto num_rows = static_cast<int64_t>(rows.size());
  const bool is_int8 = head_.matrix.takes_int8();
  Activations input = head_input_.view(num_rows, spec_.hidden_size, !is_int8 || !spec_.final_norm, is_int8);
  if (spec_.final_norm) {
    NormParams params = norm_params(*spec_.final_norm, weights_->final_norm, residual());
    params.input_rows = rows.data();
    params.out = input.values;
    params.quantized = input.quantized;
    norm(execution, params);
  } else {
    gather_rows(execution, rows, residual(), input.values);
    if (is_int8) quantize_rows(execution, input.values, input.quantized);
  }
  MatmulParams params = product(head_, input, out);
  params.scale = spec_.head->scale;
  matmul(execution, params);
  if (!spec_.head->soft_cap) return;
  const float cap = *spec_.head->soft_cap;
  execution.run(num_rows, [cap, out](int64_t row, int) {
    float* logits = out.row(row);
    for (int64_t i = 0; i < out.num_cols; ++i) logits[i] = cap * std::tanh(logits[i] / cap);
  });
}

}  // namespace autoglm
