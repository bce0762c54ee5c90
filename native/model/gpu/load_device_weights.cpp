#include "model/gpu/load_device_weights.h"

#include <utility>

#include "model/gpu/weight_upload.h"

namespace autoglm::gpu {
namespace {

using Parts = WeightUpload::Parts;

MatrixPart whole(const PackedMatrix& matrix) { return {.source = matrix, .num_rows = matrix.n}; }

// Rows [first, first + count) of matrices that lie above each other.
Parts rows_of(const StackedLinear& stacked, int64_t first, int64_t count) {
  Parts parts;
  int64_t begin = 0;  // of the linear's rows
  for (const Linear& linear : stacked.parts) {
    const int64_t low = std::max(first, begin);
    const int64_t high = std::min(first + count, begin + linear.matrix.n);
    if (low < high) {
      parts.push_back({.source = linear.matrix,
                       .first_row = low - begin,
                       .num_rows = high - low,
                       .first_destination_row = low - first});
    }
    begin += linear.matrix.n;
  }
  return parts;
}

// Gate's rows and up's, in the order of gated_row.
Parts gated_parts(const StackedLinear& stacked, int64_t intermediate) {
  Parts parts = rows_of(stacked, 0, intermediate);
  for (MatrixPart& part : parts) part.rows = PartRows::gate;
  for (MatrixPart& part : rows_of(stacked, intermediate, intermediate)) {
    part.rows = PartRows::up;
    parts.push_back(std::move(part));
  }
  return parts;
}

// The biases of all parts, one after the other; empty without any.
std::vector<float> biases_of(const StackedLinear& stacked) {
  std::vector<float> values;
  for (const Linear& linear : stacked.parts) {
    if (linear.bias != nullptr) values.insert(values.end(), linear.bias, linear.bias + linear.matrix.n);
  }
  return values;
}

class Builder {
 public:
  Builder(const DecoderSpec& spec, const DecoderWeights& from, int64_t first_layer, DeviceWeights& to)
      : spec_(spec), from_(from), first_layer_(first_layer), to_(to) {}

  WeightUpload& collect() {
    if (first_layer_ == 0) add_embeddings();
    to_.layers.resize(spec_.layers.size());
    for (auto i = static_cast<size_t>(first_layer_); i < spec_.layers.size(); ++i) add_layer(i);
    if (spec_.final_norm) add_norm(to_.final_norm, from_.final_norm, spec_.hidden_size);
    if (!spec_.head) return upload_;
    if (spec_.head->is_tied) {
      add_tied_head();
    } else {
      add_linear(to_.head, from_.head);
    }
    return upload_;
  }

 private:
  void add_vector(const float*& destination, const float* values, int64_t count) {
    if (values != nullptr) upload_.add_vector(destination, {values, values + count});
  }

  void add_norm(DeviceNorm& destination, const NormWeights& norm, int64_t length) {
    add_vector(destination.weight, norm.weight, length);
    add_vector(destination.bias, norm.bias, length);
  }

  void add_linear(DeviceLinear& destination, const Linear& linear) {
    upload_.add_matrix(destination.matrix, {whole(linear.matrix)});
    add_vector(destination.bias, linear.bias, linear.matrix.n);
  }

  void add_stacked(std::vector<DeviceLinear>& destination, const StackedLinear& stacked) {
    destination.resize(stacked.parts.size());
    for (size_t i = 0; i < stacked.parts.size(); ++i) add_linear(destination[i], stacked.parts[i]);
  }

  void add_embeddings() {
    upload_.add_matrix(to_.embedding, {whole(from_.embedding)});  // a tied head's, too
    if (from_.position_embedding.is_present())
      upload_.add_bf16_matrix(to_.position_embedding, {whole(from_.position_embedding)});
    if (from_.token_type_embedding.is_present())
      upload_.add_bf16_matrix(to_.token_type_embedding, {whole(from_.token_type_embedding)});
    add_norm(to_.embedding_norm, from_.embedding_norm, spec_.hidden_size);
  }

  // Without a matrix where the embedding is on the device.
  void add_tied_head() {
    if (first_layer_ > 0) upload_.add_matrix(to_.head.matrix, {whole(from_.embedding)});
    add_vector(to_.head.bias, from_.head.bias, spec_.vocab_size);
  }

  void add_layer(size_t index) {
    const LayerSpec& layer = spec_.layers[index];
    const LayerWeights& from = from_.layers[index];
    DeviceLayer& to = to_.layers[index];
    const int64_t hidden = spec_.hidden_size;
    add_norm(to.attention_norm, from.attention_norm, hidden);
    add_norm(to.attention_post_norm, from.attention_post_norm, hidden);
    add_norm(to.mlp_norm, from.mlp_norm, hidden);
    add_norm(to.mlp_post_norm, from.mlp_post_norm, hidden);
    add_norm(to.q_norm, from.q_norm, layer.attention.head_dim);
    add_norm(to.k_norm, from.k_norm, layer.attention.head_dim);
    if (layer.attention.latent) {
      add_latent(to.latent, from.latent, layer.attention);
    } else {
      add_stacked(to.qkv, from.qkv);
    }
    add_linear(to.o, from.o);
    if (layer.moe) {
      add_moe(to.moe, from.moe, *layer.moe);
      return;
    }
    add_gate_up(to.gate_up, from.gate_up, layer.mlp);
    add_linear(to.down, from.down);
  }

  void add_gate_up(DeviceLinear& destination, const StackedLinear& from, const MlpSpec& mlp) {
    if (!mlp.is_gated) return add_linear(destination, from.parts.front());
    const int64_t n = mlp.intermediate_size;
    upload_.add_matrix(destination.matrix, gated_parts(from, n));
    const std::vector<float> biases = biases_of(from);
    if (biases.empty()) return;
    std::vector<float> ordered(biases.size());
    for (int64_t row = 0; row < n; ++row) {
      ordered[static_cast<size_t>(cuda::gated_row(row, false))] = biases[static_cast<size_t>(row)];
      ordered[static_cast<size_t>(cuda::gated_row(row, true))] = biases[static_cast<size_t>(n + row)];
    }
    upload_.add_vector(destination.bias, std::move(ordered));
  }

  void add_latent(DeviceLatent& to, const LatentWeights& from, const AttentionSpec& attention) {
    const LatentSpec& latent = *attention.latent;
    const int64_t kv_cols = latent.rope_dim + latent.rank;
    int64_t query_cols = -kv_cols;
    for (const Linear& part : from.down.parts) query_cols += part.matrix.n;
    upload_.add_matrix(to.query.matrix, rows_of(from.down, 0, query_cols));
    upload_.add_matrix(to.kv.matrix, rows_of(from.down, query_cols, kv_cols));
    const std::vector<float> biases = biases_of(from.down);
    if (!biases.empty()) {
      upload_.add_vector(to.query.bias, {biases.begin(), biases.begin() + query_cols});
      upload_.add_vector(to.kv.bias, {biases.begin() + query_cols, biases.end()});
    }
    add_norm(to.query_norm, from.q_norm, query_cols);
    add_norm(to.kv_norm, from.kv_norm, latent.rank);
    if (from.q_b.matrix.is_present()) add_linear(to.query_b, from.q_b);
    upload_.add_bf16_matrix(to.k_b, stacked_heads(from.k_b));
    upload_.add_bf16_matrix(to.v_b, stacked_heads(from.v_b));
  }

  static Parts stacked_heads(const std::vector<Linear>& heads) {
    Parts parts;
    int64_t first = 0;
    for (const Linear& head : heads) {
      parts.push_back(whole(head.matrix));
      parts.back().first_destination_row = std::exchange(first, first + head.matrix.n);
    }
    return parts;
  }

  void add_moe(DeviceMoe& to, const MoeWeights& from, const MoeSpec& moe) {
    add_stacked(to.router, from.router);
    add_vector(to.correction, from.correction, moe.num_experts);
    std::vector<Parts> gate_up;
    std::vector<Parts> down;
    for (const ExpertWeights& expert : from.experts) {
      gate_up.push_back(gated_parts(expert.gate_up, moe.intermediate_size));
      down.push_back({whole(expert.down.matrix)});
    }
    upload_.add_experts(to.gate_up, gate_up);
    upload_.add_experts(to.down, down);
    if (moe.shared_intermediate_size == 0) return;
    upload_.add_matrix(to.shared_gate_up.matrix,
                       gated_parts(from.shared.gate_up, moe.shared_intermediate_size));
    add_linear(to.shared_down, from.shared.down);
  }

  const DecoderSpec& spec_;
  const DecoderWeights& from_;
  int64_t first_layer_;
  DeviceWeights& to_;
  WeightUpload upload_;
};

}  // namespace

DeviceWeights load_device_weights(const DecoderSpec& spec, const DecoderWeights& weights, int64_t first_layer,
                                  cuda::Stream& stream, ThreadPool& pool, LoadControl& control) {
  DeviceWeights result;
  Builder builder(spec, weights, first_layer, result);
  result.arena = builder.collect().run(stream, pool, control);
  if (spec.head && !result.head.is_present()) result.head.matrix = result.embedding;
  return result;
}

}  // namespace autoglm::gpu
