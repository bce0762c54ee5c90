#include "model/gpu/gpu_decoder.h"

#include <algorithm>
#include <utility>

#include "cuda/gemm/activate.h"
#include "cuda/gemm/lora.h"
#include "cuda/heads/copy_heads.h"
#include "cuda/quantized/quantized_embedding.h"
#include "cuda/rows/embedding.h"
#include "cuda/rows/kv_append.h"
#include "cuda/rows/norm.h"
#include "ops/kv_append.h"

namespace autoglm::gpu {
namespace {

cuda::NormArgs norm_args(const NormSpec& norm, const DeviceNorm& weights, const float* in, int32_t num_rows,
                         int64_t num_cols) {
  return {.in = in,
          .weight = weights.weight,
          .bias = weights.bias,
          .num_rows = num_rows,
          .num_cols = static_cast<int32_t>(num_cols),
          .epsilon = norm.epsilon,
          .kind = norm.kind,
          .has_unit_offset = norm.has_unit_offset};
}

}  // namespace

GpuDecoder::GpuDecoder(const DecoderSpec& spec, DeviceWeights weights, cuda::KvType kv_type,
                       cuda::Stream& stream, const GpuLimits& limits, int64_t num_row_rope_tables)
    : spec_(spec),
      weights_(std::move(weights)),
      kv_type_(kv_type),
      stream_(stream),
      kv_pool_(stream.shared_context(), device_page_bytes(spec, kv_type, limits.first_layer),
               limits.num_pages),
      scratch_(spec, weights_, stream, limits.first_layer, limits.max_step_tokens, limits.max_logit_rows),
      rope_(spec, num_row_rope_tables, limits.max_step_tokens, stream),
      first_layer_(limits.first_layer),
      max_step_tokens_(limits.max_step_tokens) {
  for (auto i = static_cast<size_t>(first_layer_); i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = spec.layers[i].attention;
    max_kv_heads_ = std::max(max_kv_heads_, attention.num_kv_heads);
    max_partial_floats_ = std::max(max_partial_floats_,
                                   attention.num_kv_heads * cuda::kDecodePairs * (attention.value_dim + 2));
  }
}

bool GpuDecoder::make_room(const DeviceStep& step, const GpuAdapters& adapters) {
  const std::shared_ptr<cuda::Context>& context = stream_.shared_context();
  bool has_moved = false;
  if (adapters.is_active()) {
    int64_t gate_up_cols = 0;
    for (auto i = static_cast<size_t>(first_layer_); i < spec_.layers.size(); ++i) {
      const LayerSpec& layer = spec_.layers[i];
      if (!layer.moe) gate_up_cols = std::max(gate_up_cols, layer.mlp.gate_up_cols());
    }
    const auto grow = [&](cuda::DeviceMemory& memory, int64_t num_cols) {
      const auto wanted = static_cast<size_t>(max_step_tokens_ * num_cols) * sizeof(float);
      if (wanted <= memory.size()) return;
      stream_.synchronize();  // the step before may be using it
      memory = {};
      memory = cuda::DeviceMemory(context, wanted);
      has_moved = true;
    };
    grow(low_, adapters.max_rank());
    grow(gate_up_, gate_up_cols);
  }
  int64_t num_partials = 0;
  for (const AttentionLists& lists : step.attention)
    num_partials = std::max<int64_t>(num_partials, lists.num_partials);
  const auto wanted = static_cast<size_t>(num_partials * max_partial_floats_) * sizeof(float);
  if (wanted <= partials_.size()) return has_moved;
  const int64_t grown = num_partials + num_partials / 2;  // sequences become longer: seldom
  // Kept as they are where there is no room for larger ones.
  cuda::DeviceMemory partials(context, static_cast<size_t>(grown * max_partial_floats_) * sizeof(float));
  cuda::DeviceMemory tickets(context, static_cast<size_t>(grown * max_kv_heads_) * sizeof(uint32_t));
  stream_.fill(tickets.data(), 0, tickets.size());
  stream_.synchronize();  // the step before may be using the old ones
  partials_ = std::move(partials);
  tickets_ = std::move(tickets);
  return true;
}

void GpuDecoder::run_layers(const DeviceStep& step, const StepPlanner& planner) {
  take_step(step, planner);
  rope_.compute(step, stream_);
  if (first_layer_ == 0) embed();
  for (auto i = static_cast<size_t>(first_layer_); i < spec_.layers.size(); ++i) {
    run_attention(i);
    if (spec_.layers[i].moe) {
      run_experts(i);
    } else {
      run_mlp(i);
    }
  }
}

void GpuDecoder::embed() {
  const auto* const positions = static_cast<const cuda::Bf16*>(weights_.position_embedding.weights);
  const auto* const types = static_cast<const cuda::Bf16*>(weights_.token_type_embedding.weights);
  if (!cuda::is_quantized(weights_.embedding.layout)) {
    const cuda::EmbeddingArgs args{.table = weights_.embedding.weights,
                                   .ids = step_->tokens,
                                   .positions = positions,
                                   .position_ids = step_->positions,
                                   .types = types,
                                   .type_ids = step_->token_types,
                                   .out = scratch_.residual,
                                   .num_rows = step_->num_rows,
                                   .hidden = static_cast<int32_t>(spec_.hidden_size),
                                   .scale = spec_.embedding.scale,
                                   .layout = weights_.embedding.layout};
    launch(cuda::embedding_launch(args), args);
  } else {
    const cuda::QuantizedEmbeddingArgs args{.table = weights_.embedding,
                                            .ids = step_->tokens,
                                            .positions = positions,
                                            .position_ids = step_->positions,
                                            .types = types,
                                            .type_ids = step_->token_types,
                                            .out = scratch_.residual,
                                            .num_rows = step_->num_rows,
                                            .scale = spec_.embedding.scale};
    launch(cuda::quantized_embedding_launch(args), args);
  }
  if (!spec_.embedding.norm) return;
  cuda::NormArgs norm = norm_args(*spec_.embedding.norm, weights_.embedding_norm, scratch_.residual,
                                  step_->num_rows, spec_.hidden_size);
  norm.out = scratch_.residual;
  launch(cuda::norm_launch(norm), norm);
}

void GpuDecoder::run_attention(size_t index) {
  const LayerSpec& layer = spec_.layers[index];
  const AttentionSpec& attention = layer.attention;
  const DeviceLayer& weights = weights_.layers[index];
  make_input(layer, weights.attention_norm);
  const cuda::Bf16* attended = scratch_.attended;
  if (attention.latent) {
    project_latent(index);
    append_and_attend(index, scratch_.qkv, attention.q_cols(), scratch_.latent_kv, attention.k_cols());
    expand_latent(index);
    attended = scratch_.expanded;
  } else {
    const int64_t num_cols = attention.q_cols() + attention.k_cols() + attention.v_cols();
    multiply_stacked(weights.qkv, scratch_.input, scratch_.qkv, num_cols);
    add_adapters(index, Product::qkv, scratch_.input, scratch_.qkv, 1);
    append_and_attend(index, scratch_.qkv, num_cols, scratch_.qkv + attention.q_cols(), num_cols);
  }
  add_product(index, Product::o, weights.o, attended);
  end_add(layer, weights.attention_norm, weights.attention_post_norm);
}

// `kv` is keys and, unless the layer is latent, values behind them in each row.
void GpuDecoder::append_and_attend(size_t index, const float* q, int64_t q_stride, const float* kv,
                                   int64_t kv_stride) {
  const AttentionSpec& attention = spec_.layers[index].attention;
  const DeviceLayer& weights = weights_.layers[index];
  const bool is_latent = attention.latent.has_value();
  cuda::KvAppendArgs append{.q = q,
                            .k = kv,
                            .v = is_latent ? nullptr : kv + attention.k_cols(),
                            .slots = step_->slots,
                            .q_norm = weights.q_norm.weight,
                            .k_norm = weights.k_norm.weight,
                            .q_norm_bias = weights.q_norm.bias,
                            .k_norm_bias = weights.k_norm.bias,
                            .q_out = scratch_.rotated_q,
                            .pages = reinterpret_cast<uint8_t*>(kv_pool_.layer(index)),
                            .q_stride = q_stride,
                            .k_stride = kv_stride,
                            .v_stride = kv_stride,
                            .num_rows = step_->num_rows,
                            .num_q_heads = static_cast<int32_t>(attention.num_q_heads),
                            .num_kv_heads = static_cast<int32_t>(attention.num_kv_heads),
                            .head_dim = static_cast<int32_t>(attention.head_dim),
                            .q_scale = query_scale(attention.scale, attention.soft_cap.value_or(0)),
                            .kv_type = kv_type_,
                            .is_latent = is_latent};
  if (attention.qk_norm) {
    append.qk_norm_kind = attention.qk_norm->kind;
    append.qk_norm_epsilon = attention.qk_norm->epsilon;
    append.qk_norm_has_unit_offset = attention.qk_norm->has_unit_offset;
  }
  if (is_latent) {  // the latent behind the rotated dims is normed
    const LatentSpec& latent = *attention.latent;
    append.first_normed_k = static_cast<int32_t>(latent.rope_dim);
    append.k_norm = weights.latent.kv_norm.weight;
    append.k_norm_bias = weights.latent.kv_norm.bias;
    append.qk_norm_kind = latent.norm.kind;
    append.qk_norm_epsilon = latent.norm.epsilon;
    append.qk_norm_has_unit_offset = latent.norm.has_unit_offset;
  }
  if (attention.rope_table) {
    const auto table = static_cast<size_t>(*attention.rope_table);
    append.cos_sin = rope_.angles(table);
    append.rotary_dim = static_cast<int32_t>(spec_.rope_tables[table].rotary_dim);
    append.rope_style = spec_.rope_tables[table].style;
  }
  launch(cuda::kv_append_launch(append), append);

  const AttentionLists& lists = step_->attention[planner_->grouping_of(index)];
  cuda::AttentionArgs args{.q = scratch_.rotated_q,
                           .pages = reinterpret_cast<const uint8_t*>(kv_pool_.layer(index)),
                           .page_tables = step_->page_tables,
                           .work = lists.decode,
                           .partials = partials_.as<float>(),
                           .tickets = tickets_.as<uint32_t>(),
                           .out = scratch_.attended,
                           .num_work = lists.num_decode,
                           .num_q_heads = static_cast<int32_t>(attention.num_q_heads),
                           .num_kv_heads = static_cast<int32_t>(attention.num_kv_heads),
                           .head_dim = static_cast<int32_t>(attention.head_dim),
                           .value_dim = static_cast<int32_t>(attention.value_dim),
                           .sliding_window = static_cast<int32_t>(attention.sliding_window.value_or(0)),
                           .soft_cap = attention.soft_cap.value_or(0),
                           .kv_type = kv_type_,
                           .is_latent = is_latent,
                           .is_causal = attention.is_causal};
  launch(cuda::decode_launch(args), args);
  args.work = lists.prefill;
  args.num_work = lists.num_prefill;
  launch(cuda::prefill_launch(args), args);
}

void GpuDecoder::run_mlp(size_t index) {
  const LayerSpec& layer = spec_.layers[index];
  const DeviceLayer& weights = weights_.layers[index];
  make_input(layer, weights.mlp_norm);
  const MlpSpec& mlp = layer.mlp;
  cuda::ProductArgs args{.w = {},
                         .in = scratch_.input,
                         .experts = {},
                         .in_stride = spec_.hidden_size,
                         .num_rows = step_->num_rows};
  if (has_additions(index, Product::gate_up)) {
    args.out = gate_up_.as<float>();
    args.out_stride = mlp.gate_up_cols();
    multiply(weights.gate_up, args);
    add_adapters(index, Product::gate_up, scratch_.input, args.out, 1,
                 mlp.is_gated ? mlp.intermediate_size : 0);
    const cuda::ActivateArgs activate{.in = args.out,
                                      .out = scratch_.activated,
                                      .in_stride = mlp.gate_up_cols(),
                                      .out_stride = mlp.intermediate_size,
                                      .num_rows = step_->num_rows,
                                      .num_cols = static_cast<int32_t>(mlp.intermediate_size),
                                      .is_gated = mlp.is_gated,
                                      .activation = mlp.activation};
    launch(cuda::activate_launch(activate), activate);
  } else {
    args.out_bf16 = scratch_.activated;
    args.out_stride = mlp.intermediate_size;
    args.epilogue = mlp.is_gated ? cuda::Epilogue::gated : cuda::Epilogue::activated;
    args.activation = mlp.activation;
    multiply(weights.gate_up, args);
  }
  add_product(index, Product::down, weights.down, scratch_.activated);
  end_add(layer, weights.mlp_norm, weights.mlp_post_norm);
}

// What the first product of a sub-layer reads: the normed hidden state, or, with norms behind the sub-layers,
// the hidden state as it is.
void GpuDecoder::make_input(const LayerSpec& layer, const DeviceNorm& norm) {
  if (layer.norm_placement == NormPlacement::post) {
    to_bf16(scratch_.residual, scratch_.input, spec_.hidden_size);
    return;
  }
  cuda::NormArgs args = norm_args(layer.norm, norm, scratch_.residual, step_->num_rows, spec_.hidden_size);
  args.out_bf16 = scratch_.input;
  launch(cuda::norm_launch(args), args);
}

void GpuDecoder::to_bf16(const float* in, cuda::Bf16* out, int64_t num_cols) {
  const cuda::CopyHeadsArgs args{.in = in,
                                 .out_bf16 = out,
                                 .in_row_stride = num_cols,
                                 .in_head_stride = num_cols,
                                 .out_row_stride = num_cols,
                                 .out_head_stride = num_cols,
                                 .num_rows = step_->num_rows,
                                 .num_heads = 1,
                                 .count = static_cast<int32_t>(num_cols)};
  launch(cuda::copy_heads_launch(args), args);
}

// Where the last operation of a sub-layer writes, and what `end_add` does then: LayerSpec.normPlacement.
GpuDecoder::AddedTo GpuDecoder::begin_add(const LayerSpec& layer) const {
  switch (layer.norm_placement) {
    case NormPlacement::pre:
      return {.out = scratch_.residual, .residual = scratch_.residual, .scale = layer.residual_scale};
    case NormPlacement::post:
      return {.out = scratch_.sublayer, .residual = scratch_.residual, .scale = layer.residual_scale};
    case NormPlacement::sandwich:
      break;
  }
  return {.out = scratch_.sublayer, .residual = nullptr, .scale = 1};
}

void GpuDecoder::end_add(const LayerSpec& layer, const DeviceNorm& pre, const DeviceNorm& post) {
  if (layer.norm_placement == NormPlacement::pre) return;
  const bool is_sandwich = layer.norm_placement == NormPlacement::sandwich;
  cuda::NormArgs args =
      norm_args(layer.norm, is_sandwich ? post : pre, scratch_.sublayer, step_->num_rows, spec_.hidden_size);
  if (is_sandwich) {
    args.residual = scratch_.residual;
    args.residual_scale = layer.residual_scale;
  }
  args.out = scratch_.residual;
  launch(cuda::norm_launch(args), args);
}

bool GpuDecoder::has_additions(size_t layer, Product product) const {
  const StepAdapters& adapters = step_->adapters;
  return adapters.is_active() && adapters.layers[layer][static_cast<size_t>(product)].max_rank > 0;
}

void GpuDecoder::add_adapters(size_t index, Product product, const cuda::Bf16* in, float* out, float scale,
                              int64_t gated_cols) {
  if (!has_additions(index, product)) return;
  const StepAdapters& adapters = step_->adapters;
  const ProductAdditions& additions = adapters.layers[index][static_cast<size_t>(product)];
  const ProductShape shape = product_shape(spec_, spec_.layers[index], product);
  const cuda::LoraArgs args{.adapters = additions.adapters,
                            .parts = adapters.parts,
                            .runs = adapters.runs,
                            .in = in,
                            .low = low_.as<float>(),
                            .out = out,
                            .in_stride = shape.in,
                            .out_stride = shape.out,
                            .num_runs = adapters.num_runs,
                            .k = static_cast<int32_t>(shape.in),
                            .num_cols = static_cast<int32_t>(shape.out),
                            .max_rank = additions.max_rank,
                            .gated_cols = static_cast<int32_t>(gated_cols),
                            .scale = scale};
  launch(cuda::lora_shrink_launch(args), args);
  launch(cuda::lora_expand_launch(args), args);
}

void GpuDecoder::add_product(size_t index, Product product, const DeviceLinear& linear,
                             const cuda::Bf16* in) {
  const AddedTo target = begin_add(spec_.layers[index]);
  multiply(linear, {.w = {},
                    .in = in,
                    .residual = target.residual,
                    .out = target.out,
                    .experts = {},
                    .in_stride = linear.matrix.k,
                    .out_stride = spec_.hidden_size,
                    .num_rows = step_->num_rows,
                    .scale = target.scale});
  add_adapters(index, product, in, target.out, target.scale);
}

void GpuDecoder::multiply(const DeviceLinear& linear, cuda::ProductArgs args) {
  args.w = linear.matrix;
  args.bias = linear.bias;
  args.workspace = scratch_.workspace;
  launch(product_launch(args), args);
}

void GpuDecoder::multiply_stacked(const std::vector<DeviceLinear>& parts, const cuda::Bf16* in, float* out,
                                  int64_t out_stride) {
  for (const DeviceLinear& part : parts) {
    multiply(part, {.w = {},
                    .in = in,
                    .out = out,
                    .experts = {},
                    .in_stride = part.matrix.k,
                    .out_stride = out_stride,
                    .num_rows = step_->num_rows});
    out += part.matrix.n;
  }
}

float* GpuDecoder::compute_logits(const int32_t* rows, int64_t num_rows) {
  cuda::ProductArgs args{.w = {},
                         .in = scratch_.head_input,
                         .out = scratch_.logits,
                         .experts = {},
                         .in_stride = spec_.hidden_size,
                         .out_stride = scratch_.logits_stride,
                         .num_rows = static_cast<int32_t>(num_rows),
                         .scale = spec_.head->scale};
  if (spec_.final_norm) {
    cuda::NormArgs norm = norm_args(*spec_.final_norm, weights_.final_norm, scratch_.residual,
                                    static_cast<int32_t>(num_rows), spec_.hidden_size);
    norm.input_rows = rows;
    norm.out_bf16 = scratch_.head_input;
    launch(cuda::norm_launch(norm), norm);
  } else {
    to_bf16(scratch_.residual, scratch_.input, spec_.hidden_size);
    args.in = scratch_.input;
    args.input_rows = rows;
  }
  multiply(weights_.head, args);
  return scratch_.logits;
}

// In place: a row whose turn comes later must not find another's.
float* GpuDecoder::final_hidden() {
  if (!spec_.final_norm) return scratch_.residual;
  cuda::NormArgs norm = norm_args(*spec_.final_norm, weights_.final_norm, scratch_.residual, step_->num_rows,
                                  spec_.hidden_size);
  norm.out = scratch_.residual;
  launch(cuda::norm_launch(norm), norm);
  return scratch_.residual;
}

}  // namespace autoglm::gpu
