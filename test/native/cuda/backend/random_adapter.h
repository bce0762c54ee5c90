// Low-rank adapters with random matrices in a temporary file.
#pragma once

#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/adapter.h"
#include "model_file_at.h"

namespace autoglm::test {

// Random additions to every product of a model, as bf16 matrices in a file of their own.
class RandomAdapter {
 public:
  RandomAdapter(const DecoderSpec& spec, int64_t rank, uint64_t seed) : random_(seed) {
    path_ = std::filesystem::temp_directory_path() /
            ("autoglm-adapter-" + std::to_string(getpid()) + "-" + std::to_string(seed));
    for (size_t layer = 0; layer < spec.layers.size(); ++layer) {
      const AttentionSpec& attention = spec.layers[layer].attention;
      const int64_t intermediate = spec.layers[layer].mlp.intermediate_size;
      // q and v, not k; gate and up.
      add(spec, layer, Product::qkv, 0, attention.q_cols(), rank);
      add(spec, layer, Product::qkv, attention.q_cols() + attention.k_cols(), attention.v_cols(), rank);
      add(spec, layer, Product::o, 0, spec.hidden_size, rank);
      if (layer == 1) continue;  // its MLP stays as it is
      add(spec, layer, Product::gate_up, 0, intermediate, rank);
      add(spec, layer, Product::gate_up, intermediate, intermediate, rank);
      add(spec, layer, Product::down, 0, spec.hidden_size, rank);
    }
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(values_.data()),
               static_cast<std::streamsize>(values_.size() * sizeof(uint16_t)));
    request_.files = {model_file_at(path_)};
  }
  ~RandomAdapter() { std::filesystem::remove(path_); }
  RandomAdapter(const RandomAdapter&) = delete;
  RandomAdapter& operator=(const RandomAdapter&) = delete;

  std::unique_ptr<const Adapter> read() const {
    return std::make_unique<const Adapter>(request_, [] {});
  }

 private:
  void add(const DecoderSpec& spec, size_t layer, Product product, int64_t first_col, int64_t num_cols,
           int64_t rank) {
    const int64_t in = product_shape(spec, spec.layers[layer], product).in;
    AdapterPartSource part;
    part.layer = static_cast<int64_t>(layer);
    part.product = product;
    part.first_col = first_col;
    part.scale = 0.5F;
    part.a = matrix(rank, in);
    part.b = matrix(num_cols, rank);
    request_.parts.push_back(part);
  }

  WeightSource matrix(int64_t n, int64_t k) {
    WeightSource source;
    source.format = StoredFormat::bf16;
    source.shape = {n, k};
    source.slices = {{.file = 0,
                      .offset = static_cast<int64_t>(values_.size() * sizeof(uint16_t)),
                      .num_bytes = n * k * 2}};
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    const float size = 1.2F / std::sqrt(static_cast<float>(k));
    for (int64_t i = 0; i < n * k; ++i)
      values_.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(size * uniform(random_)) >> 16));
    return source;
  }

  std::string path_;
  std::mt19937_64 random_;
  std::vector<uint16_t> values_;
  AdapterRequest request_;
};

}  // namespace autoglm::test
