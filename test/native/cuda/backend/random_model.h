// Models of any settings with random weights in a temporary file, for loading to either back end.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "model/weight_source.h"
#include "model_file_at.h"
#include "runtime/load_request.h"

namespace autoglm::test {

// The usual settings of a small decoder; tests change what they are about.
inline DecoderSpec small_spec(int64_t num_layers = 2) {
  DecoderSpec spec;
  spec.vocab_size = 96;
  spec.hidden_size = 64;
  spec.context_length = 512;
  const NormSpec norm{.kind = NormKind::rms, .epsilon = 1e-5F};
  LayerSpec layer;
  layer.attention = {.num_q_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = 16,
                     .value_dim = 16,
                     .scale = 0.25F,
                     .qk_norm = {},
                     .sliding_window = {},
                     .soft_cap = {},
                     .rope_table = 0};
  layer.mlp = {.intermediate_size = 96};
  layer.norm = norm;
  spec.layers.assign(static_cast<size_t>(num_layers), layer);
  spec.final_norm = norm;
  spec.head = HeadSpec{.is_tied = false, .soft_cap = {}};
  RopeTable table{.rotary_dim = 16, .style = RopeStyle::half_split, .frequencies = {}};
  for (int i = 0; i < 8; ++i) table.frequencies.push_back(std::pow(10'000.0, -i / 8.0));
  spec.rope_tables = {table};
  return spec;
}

class RandomModel {
 public:
  // Matrices are stored as `format` (bf16, f32, f16, q4_0, q4_1, q8_0, q6_k, or gptq_4: symmetric with groups
  // of at most 128), vectors as f32. `are_coarse`: values of f16 are rounded to bfloat16 as well.
  RandomModel(DecoderSpec spec, StoredFormat format, uint64_t seed = 1, bool are_coarse = false)
      : spec_(std::move(spec)), format_(format), are_coarse_(are_coarse), random_(seed) {
    static int number = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("autoglm-random-" + std::to_string(getpid()) + "-" + std::to_string(number++));
    add_all();
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  }
  ~RandomModel() { std::filesystem::remove(path_); }
  RandomModel(const RandomModel&) = delete;
  RandomModel& operator=(const RandomModel&) = delete;

  const DecoderSpec& spec() const { return spec_; }

  // Without what is shared with a scheduler.
  LoadRequest request() const {
    LoadRequest request;
    request.spec = spec_;
    request.files = {model_file_at(path_)};
    request.weights = weights_;
    request.num_pages = 160;
    request.max_rows = 8;
    request.max_step_tokens = 256;
    return request;
  }

 private:
  void add_all() {
    const int64_t hidden = spec_.hidden_size;
    matrix("embedding", spec_.vocab_size, hidden);
    if (spec_.embedding.has_positions) matrix("position_embedding", spec_.context_length, hidden);
    if (spec_.embedding.num_token_types > 0)
      matrix("token_type_embedding", spec_.embedding.num_token_types, hidden);
    if (spec_.embedding.norm) norm("embedding_norm", *spec_.embedding.norm, hidden);
    for (size_t i = 0; i < spec_.layers.size(); ++i)
      add_layer("layers." + std::to_string(i) + ".", spec_.layers[i]);
    if (spec_.final_norm) norm("final_norm", *spec_.final_norm, hidden);
    if (spec_.head && !spec_.head->is_tied) matrix("head", spec_.vocab_size, hidden);
    if (spec_.head && spec_.head->has_bias) vector("head.bias", spec_.vocab_size, 0);
    int64_t in_size = hidden;
    for (size_t i = 0; i < spec_.pooled_layers.size(); ++i) {
      const PooledLayerSpec& layer = spec_.pooled_layers[i];
      linear("pooled." + std::to_string(i), layer.out_size, in_size, layer.has_bias);
      in_size = layer.out_size;
    }
  }

  void add_layer(const std::string& prefix, const LayerSpec& layer) {
    const int64_t hidden = spec_.hidden_size;
    const AttentionSpec& attention = layer.attention;
    const bool is_sandwich = layer.norm_placement == NormPlacement::sandwich;
    norm(prefix + "attention_norm", layer.norm, hidden);
    norm(prefix + "mlp_norm", layer.norm, hidden);
    if (is_sandwich) norm(prefix + "attention_post_norm", layer.norm, hidden);
    if (is_sandwich) norm(prefix + "mlp_post_norm", layer.norm, hidden);
    const std::string at = prefix + "attention.";
    if (attention.qk_norm) {
      norm(at + "q_norm", *attention.qk_norm, attention.head_dim);
      norm(at + "k_norm", *attention.qk_norm, attention.head_dim);
    }
    if (attention.latent) {
      add_latent(at, attention);
    } else {
      linear(at + "q", attention.q_cols(), hidden, attention.has_qkv_bias);
      linear(at + "k", attention.k_cols(), hidden, attention.has_qkv_bias);
      linear(at + "v", attention.v_cols(), hidden, attention.has_qkv_bias);
      linear(at + "o", hidden, attention.attended_cols(), attention.has_output_bias);
    }
    if (layer.moe) return add_moe(prefix + "mlp.", *layer.moe);
    const MlpSpec& mlp = layer.mlp;
    if (mlp.is_gated) linear(prefix + "mlp.gate", mlp.intermediate_size, hidden, mlp.has_bias);
    linear(prefix + "mlp.up", mlp.intermediate_size, hidden, mlp.has_bias);
    linear(prefix + "mlp.down", hidden, mlp.intermediate_size, mlp.has_bias);
  }

  void add_latent(const std::string& prefix, const AttentionSpec& attention) {
    const LatentSpec& latent = *attention.latent;
    const int64_t hidden = spec_.hidden_size;
    const int64_t num_queries = attention.num_q_heads * (latent.nope_dim + latent.rope_dim);
    if (latent.query_rank) {
      matrix(prefix + "q_a", *latent.query_rank, hidden);
      norm(prefix + "q_a_norm", latent.norm, *latent.query_rank);
      matrix(prefix + "q_b", num_queries, *latent.query_rank);
    } else {
      matrix(prefix + "q", num_queries, hidden);
    }
    matrix(prefix + "kv_a", latent.rope_dim + latent.rank, hidden);
    norm(prefix + "kv_a_norm", latent.norm, latent.rank);
    for (int64_t head = 0; head < attention.num_q_heads; ++head) {
      matrix(prefix + "k_b." + std::to_string(head), latent.rank, latent.nope_dim);
      matrix(prefix + "v_b." + std::to_string(head), latent.output_dim, latent.rank);
    }
    matrix(prefix + "o", hidden, attention.num_q_heads * latent.output_dim);
  }

  void add_moe(const std::string& prefix, const MoeSpec& moe) {
    const int64_t hidden = spec_.hidden_size;
    const StoredFormat format = std::exchange(format_, StoredFormat::bf16);
    matrix(prefix + "router", moe.num_experts, hidden);
    if (moe.has_shared_gate) matrix(prefix + "shared_gate", 1, hidden);
    format_ = format;
    if (moe.router.has_correction_bias) vector(prefix + "router.bias", moe.num_experts, 0);
    for (int64_t expert = 0; expert < moe.num_experts; ++expert)
      add_expert(prefix + "experts." + std::to_string(expert) + ".", moe.intermediate_size);
    if (moe.shared_intermediate_size > 0) add_expert(prefix + "shared.", moe.shared_intermediate_size);
  }

  void add_expert(const std::string& prefix, int64_t intermediate) {
    matrix(prefix + "gate", intermediate, spec_.hidden_size);
    matrix(prefix + "up", intermediate, spec_.hidden_size);
    matrix(prefix + "down", spec_.hidden_size, intermediate);
  }

  void linear(const std::string& role, int64_t n, int64_t k, bool has_bias) {
    matrix(role, n, k);
    if (has_bias) vector(role + ".bias", n, 0);
  }

  void norm(const std::string& role, const NormSpec& spec, int64_t length) {
    vector(role, length, spec.has_unit_offset ? 0.0F : 1.0F);
    if (spec.has_bias) vector(role + ".bias", length, 0);
  }

  float draw() { return std::uniform_real_distribution<float>(-1.0F, 1.0F)(random_); }

  void vector(const std::string& role, int64_t length, float middle) {
    begin(role, StoredFormat::f32, {length});
    for (int64_t i = 0; i < length; ++i) append(middle + 0.2F * draw());
    end(role);
  }

  // Weights of the size that keeps activations near 1.
  void matrix(const std::string& role, int64_t n, int64_t k) {
    begin(role, format_, {n, k});
    if (format_ == StoredFormat::gptq_4) return add_codes(role, n, k);
    const float size = 1.7F / std::sqrt(static_cast<float>(role == "embedding" ? 3 : k));
    const StoredFormatInfo& info = info_of(format_);
    for (int64_t block = 0; block < n * k / info.elements_per_block; ++block) add_block(info, size);
    end(role);
  }

  // Words [k / 8][n], then scales [groups][n].
  void add_codes(const std::string& role, int64_t n, int64_t k) {
    for (int64_t i = 0; i < n * k / 8; ++i) append(static_cast<uint32_t>(random_()));
    end(role);
    Quantization quantization;
    quantization.num_stored_rows = n;
    quantization.group_cols = std::min<int64_t>(k, 128);
    quantization.is_symmetric = true;
    const int64_t num_groups = k / quantization.group_cols;
    quantization.scales = {
        .slice = {.file = 0, .offset = static_cast<int64_t>(bytes_.size()), .num_bytes = 2 * num_groups * n},
        .dtype = ComponentDtype::f16,
        .shape = {num_groups, n}};
    const float size = 1.7F / std::sqrt(static_cast<float>(role == "embedding" ? 3 : k)) / 8;
    for (int64_t i = 0; i < num_groups * n; ++i) append(float_to_half(size * (1.0F + 0.3F * draw())));
    weights_[role].quantization = quantization;
  }

  // Rounded once, or twice where the values are coarse: to half, then to bfloat16.
  uint16_t half_of(float value) const {
    const uint16_t half = float_to_half(value);
    if (!are_coarse_) return half;
    const float exact = half_to_float(half);
    uint32_t bits = 0;
    std::memcpy(&bits, &exact, 4);
    return float_to_half(bf16_to_float(static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)));
  }

  void add_block(const StoredFormatInfo& info, float size) {
    const auto bits = [](float value) {
      uint32_t word = 0;
      std::memcpy(&word, &value, 4);
      return word;
    };
    switch (format_) {
      case StoredFormat::f32:
        return append(size * draw());
      case StoredFormat::bf16:
        return append(static_cast<uint16_t>(bits(size * draw()) >> 16));
      case StoredFormat::f16:
        return append(half_of(size * draw()));
      default:
        break;
    }
    std::vector<uint8_t> block(static_cast<size_t>(info.bytes_per_block));
    for (uint8_t& each : block) each = static_cast<uint8_t>(random_());
    const auto put_half = [&](size_t at, float value) {
      const uint16_t half = float_to_half(value);
      std::memcpy(&block[at], &half, 2);
    };
    const float vary = 1.0F + 0.3F * draw();
    if (format_ == StoredFormat::q8_0) put_half(0, size * vary / 127);
    if (format_ == StoredFormat::q4_0 || format_ == StoredFormat::iq4_nl)
      put_half(0, size * vary / (format_ == StoredFormat::q4_0 ? 8 : 100));
    if (format_ == StoredFormat::q4_1) {
      put_half(0, size * vary / 8);
      put_half(2, -size);
    }
    if (format_ == StoredFormat::q6_k) {  // codes, 16 scales of int8, a half
      for (size_t i = 192; i < 208; ++i) block[i] = static_cast<uint8_t>(40 + block[i] % 40);
      put_half(208, size * vary / 32 / 60);
    }
    if (format_ == StoredFormat::q4_k) {  // two halves, 12 bytes of 6-bit scales and mins, codes
      put_half(0, size * vary / 8 / 32);
      put_half(2, size / 32);
    }
    bytes_.insert(bytes_.end(), block.begin(), block.end());
  }

  template <typename T>
  void append(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(T));
    std::memcpy(&bytes_[at], &value, sizeof(T));
  }

  void begin(const std::string& role, StoredFormat format, std::vector<int64_t> shape) {
    bytes_.resize((bytes_.size() + 63) / 64 * 64);
    WeightSource source;
    source.format = format;
    source.shape = std::move(shape);
    source.slices = {{.file = 0, .offset = static_cast<int64_t>(bytes_.size()), .num_bytes = 0}};
    weights_[role] = std::move(source);
  }
  void end(const std::string& role) {
    FileSlice& slice = weights_[role].slices.front();
    slice.num_bytes = static_cast<int64_t>(bytes_.size()) - slice.offset;
  }

  DecoderSpec spec_;
  StoredFormat format_;
  bool are_coarse_;
  std::string path_;
  std::mt19937_64 random_;
  std::vector<uint8_t> bytes_;
  WeightMap weights_;
};

}  // namespace autoglm::test
