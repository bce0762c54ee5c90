#include "model/weight_layout.h"

#include <algorithm>
#include <span>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "model/coded_tensor.h"
#include "quant/packed_matrix.h"

namespace autoglm {
namespace {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

class LayoutBuilder {
 public:
  LayoutBuilder(const DecoderSpec& spec, const WeightMap& map, Precision precision)
      : spec_(spec), map_(map), precision_(precision) {}

  WeightLayout build() {
    layout_.weights = std::make_unique<DecoderWeights>();
    DecoderWeights& weights = *layout_.weights;
    weights.layers.resize(spec_.layers.size());
    add_matrix(weights.embedding, "embedding", spec_.vocab_size, spec_.hidden_size);
    if (spec_.embedding.has_positions) {
      add_matrix(weights.position_embedding, "position_embedding", spec_.context_length, spec_.hidden_size);
    }
    if (spec_.embedding.num_token_types > 0) {
      add_matrix(weights.token_type_embedding, "token_type_embedding", spec_.embedding.num_token_types,
                 spec_.hidden_size);
    }
    if (spec_.embedding.norm) {
      add_norm(weights.embedding_norm, "embedding_norm", *spec_.embedding.norm, spec_.hidden_size);
    }
    for (size_t i = 0; i < spec_.layers.size(); ++i) add_layer(i);
    if (spec_.final_norm) add_norm(weights.final_norm, "final_norm", *spec_.final_norm, spec_.hidden_size);
    if (spec_.head) add_head(*spec_.head);
    add_pooled_layers();
    refuse_unused();
    return std::move(layout_);
  }

 private:
  using RolesAndRows = std::vector<std::pair<std::string, int64_t>>;

  void add_head(const HeadSpec& head) {
    Linear& linear = layout_.weights->head;
    if (!head.is_tied) add_matrix(linear.matrix, "head", spec_.vocab_size, spec_.hidden_size);
    if (head.has_bias) add_bias(linear.bias, {{"head", spec_.vocab_size}});
  }

  void add_pooled_layers() {
    std::vector<Linear>& layers = layout_.weights->pooled_layers;
    layers.resize(spec_.pooled_layers.size());
    int64_t in_size = spec_.hidden_size;
    for (size_t i = 0; i < layers.size(); ++i) {
      const PooledLayerSpec& layer = spec_.pooled_layers[i];
      add_linear(layers[i], "pooled." + std::to_string(i), layer.out_size, in_size, layer.has_bias);
      in_size = layer.out_size;
    }
  }

  void add_layer(size_t index) {
    const LayerSpec& layer = spec_.layers[index];
    LayerWeights& weights = layout_.weights->layers[index];
    const AttentionSpec& attention = layer.attention;
    const std::string prefix = "layers." + std::to_string(index) + ".";
    const int64_t hidden = spec_.hidden_size;
    const bool is_sandwich = layer.norm_placement == NormPlacement::sandwich;

    add_norm(weights.attention_norm, prefix + "attention_norm", layer.norm, hidden);
    if (is_sandwich)
      add_norm(weights.attention_post_norm, prefix + "attention_post_norm", layer.norm, hidden);
    add_norm(weights.mlp_norm, prefix + "mlp_norm", layer.norm, hidden);
    if (is_sandwich) add_norm(weights.mlp_post_norm, prefix + "mlp_post_norm", layer.norm, hidden);
    if (attention.qk_norm) {
      add_norm(weights.q_norm, prefix + "attention.q_norm", *attention.qk_norm, attention.head_dim);
      add_norm(weights.k_norm, prefix + "attention.k_norm", *attention.qk_norm, attention.head_dim);
    }
    if (attention.latent) {
      add_latent(weights, attention, prefix + "attention.");
    } else {
      add_qkv(weights, attention, prefix);
    }
    add_mlp(weights, layer, prefix);
  }

  void add_qkv(LayerWeights& weights, const AttentionSpec& attention, const std::string& prefix) {
    const int64_t hidden = spec_.hidden_size;
    add_stacked(weights.qkv,
                {{prefix + "attention.q", attention.q_cols()},
                 {prefix + "attention.k", attention.k_cols()},
                 {prefix + "attention.v", attention.v_cols()}},
                hidden, attention.has_qkv_bias);
    add_linear(weights.o, prefix + "attention.o", hidden, attention.attended_cols(),
               attention.has_output_bias);
  }

  void add_latent(LayerWeights& layer, const AttentionSpec& attention, const std::string& prefix) {
    const LatentSpec& latent = *attention.latent;
    LatentWeights& weights = layer.latent;
    const int64_t hidden = spec_.hidden_size;
    const int64_t num_queries = attention.num_q_heads * (latent.nope_dim + latent.rope_dim);
    const auto num_heads = static_cast<size_t>(attention.num_q_heads);
    RolesAndRows down;
    if (latent.query_rank) {
      down.emplace_back(prefix + "q_a", *latent.query_rank);
      add_norm(weights.q_norm, prefix + "q_a_norm", latent.norm, *latent.query_rank);
      add_linear(weights.q_b, prefix + "q_b", num_queries, *latent.query_rank, false);
    } else {
      down.emplace_back(prefix + "q", num_queries);
    }
    down.emplace_back(prefix + "kv_a", latent.rope_dim + latent.rank);
    add_stacked(weights.down, down, hidden, attention.has_qkv_bias);
    add_norm(weights.kv_norm, prefix + "kv_a_norm", latent.norm, latent.rank);
    weights.k_b.resize(num_heads);
    weights.v_b.resize(num_heads);
    for (size_t head = 0; head < num_heads; ++head) {
      const std::string number = std::to_string(head);
      add_matrix(weights.k_b[head].matrix, prefix + "k_b." + number, latent.rank, latent.nope_dim);
      add_matrix(weights.v_b[head].matrix, prefix + "v_b." + number, latent.output_dim, latent.rank);
    }
    add_linear(layer.o, prefix + "o", hidden, attention.num_q_heads * latent.output_dim,
               attention.has_output_bias);
  }

  void add_mlp(LayerWeights& weights, const LayerSpec& layer, const std::string& prefix) {
    const int64_t hidden = spec_.hidden_size;
    if (layer.moe) {
      add_experts(weights.moe, *layer.moe, prefix + "mlp.");
      return;
    }
    const int64_t intermediate = layer.mlp.intermediate_size;
    RolesAndRows gate_up;
    if (layer.mlp.is_gated) gate_up.emplace_back(prefix + "mlp.gate", intermediate);
    gate_up.emplace_back(prefix + "mlp.up", intermediate);
    add_stacked(weights.gate_up, gate_up, hidden, layer.mlp.has_bias);
    add_linear(weights.down, prefix + "mlp.down", hidden, intermediate, layer.mlp.has_bias);
  }

  void add_experts(MoeWeights& weights, const MoeSpec& moe, const std::string& prefix) {
    RolesAndRows router = {{prefix + "router", moe.num_experts}};
    if (moe.has_shared_gate) router.emplace_back(prefix + "shared_gate", 1);
    // Whatever the precision: a rounded score could choose another expert.
    add_stacked(weights.router, router, spec_.hidden_size, false, Precision::exact);
    if (moe.router.has_correction_bias) {
      add_bias(weights.correction, {{prefix + "router", moe.num_experts}});
    }
    weights.experts.resize(static_cast<size_t>(moe.num_experts));
    for (size_t expert = 0; expert < weights.experts.size(); ++expert) {
      add_expert(weights.experts[expert], prefix + "experts." + std::to_string(expert) + ".",
                 moe.intermediate_size);
    }
    if (moe.shared_intermediate_size > 0) {
      add_expert(weights.shared, prefix + "shared.", moe.shared_intermediate_size);
    }
  }

  void add_expert(ExpertWeights& weights, const std::string& prefix, int64_t intermediate) {
    const int64_t hidden = spec_.hidden_size;
    add_stacked(weights.gate_up, {{prefix + "gate", intermediate}, {prefix + "up", intermediate}}, hidden,
                false);
    add_linear(weights.down, prefix + "down", hidden, intermediate, false);
  }

  void add_matrix(PackedMatrix& destination, const std::string& role, int64_t n, int64_t k) {
    MatrixJob job{.destination = &destination,
                  .sources = {find(role, {n, k})},
                  .format = format_of(role),
                  .precision = precision_,
                  .n = n,
                  .k = k};
    layout_.matrices.push_back(std::move(job));
  }

  void add_linear(Linear& destination, const std::string& role, int64_t n, int64_t k, bool has_bias) {
    add_matrix(destination.matrix, role, n, k);
    if (has_bias) add_bias(destination.bias, {{role, n}});
  }

  void add_stacked(StackedLinear& destination, const RolesAndRows& roles, int64_t k, bool has_bias) {
    add_stacked(destination, roles, k, has_bias, precision_);
  }

  void add_stacked(StackedLinear& destination, const RolesAndRows& roles, int64_t k, bool has_bias,
                   Precision precision) {
    std::vector<RolesAndRows> runs;  // neighbours of equal format
    for (const auto& [role, n] : roles) {
      if (runs.empty() || format_of(runs.back().front().first, precision) != format_of(role, precision)) {
        runs.emplace_back();
      }
      runs.back().emplace_back(role, n);
    }
    destination.parts.resize(runs.size());
    for (size_t i = 0; i < runs.size(); ++i) {
      MatrixJob job{.destination = &destination.parts[i].matrix,
                    .sources = {},
                    .format = format_of(runs[i].front().first, precision),
                    .precision = precision,
                    .n = 0,
                    .k = k};
      for (const auto& [role, n] : runs[i]) {
        job.sources.push_back(find(role, {n, k}));
        job.n += n;
      }
      layout_.matrices.push_back(std::move(job));
      if (has_bias) add_bias(destination.parts[i].bias, runs[i]);
    }
  }

  void add_norm(NormWeights& destination, const std::string& role, const NormSpec& norm, int64_t length) {
    layout_.vectors.push_back(
        {.destination = &destination.weight, .sources = {find(role, {length})}, .length = length});
    if (norm.has_bias) add_bias(destination.bias, {{role, length}});
  }

  void add_bias(const float*& destination, const RolesAndRows& roles) {
    VectorJob job{.destination = &destination, .sources = {}, .length = 0};
    for (const auto& [role, n] : roles) {
      job.sources.push_back(find(role + ".bias", {n}));
      job.length += n;
    }
    layout_.vectors.push_back(std::move(job));
  }

  PackedFormat format_of(const std::string& role) const { return format_of(role, precision_); }

  PackedFormat format_of(const std::string& role, Precision precision) const {
    const auto found = map_.find(role);
    if (found == map_.end()) return {};
    const WeightSource& source = found->second;
    if (source.quantization && !source.shape.empty())
      return choose_packed_format(code_traits(source), precision);
    return choose_packed_format(source.format, precision);
  }

  NamedSource find(const std::string& role, std::vector<int64_t> shape) {
    const auto found = map_.find(role);
    if (found == map_.end())
      throw Error(ErrorCode::invalid_model_file, "the model has no tensor for " + role);
    const WeightSource& source = found->second;
    if (source.shape != shape) {
      throw Error(ErrorCode::invalid_model_file, role + " has shape " + shape_text(source.shape) +
                                                     ", the model's settings require " + shape_text(shape));
    }
    used_.insert(role);
    const bool is_vector = shape.size() == 1;
    layout_.weights->layouts[role] = is_vector ? ComputeLayout::f32 : format_of(role).layout;
    return {role, &source, shape.front()};
  }

  void refuse_unused() const {
    for (const auto& [role, source] : map_) {
      if (!used_.contains(role)) {
        throw Error(ErrorCode::invalid_parameter,
                    "the model's description has no use for the tensor " + role);
      }
    }
  }

  const DecoderSpec& spec_;
  const WeightMap& map_;
  const Precision precision_;
  WeightLayout layout_;
  std::unordered_set<std::string> used_;
};

}  // namespace

bool StackedLinear::needs_int8() const {
  return std::ranges::any_of(parts, [](const Linear& part) { return part.matrix.takes_int8(); });
}

bool StackedLinear::needs_float() const {
  return std::ranges::any_of(parts, [](const Linear& part) { return !part.matrix.takes_int8(); });
}

WeightLayout lay_out_weights(const DecoderSpec& spec, const WeightMap& map, Precision precision) {
  return LayoutBuilder(spec, map, precision).build();
}

}  // namespace autoglm
