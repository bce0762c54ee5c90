// A decoder of one layer with random float32 weights in a temporary file, for tests of loading and steps.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "model_file_at.h"
#include "runtime/load_request.h"
#include "runtime/step_records.h"

namespace autoglm {

class TinyModel {
 public:
  static constexpr int64_t kVocabSize = 40;
  static constexpr int64_t kHiddenSize = 32;

  TinyModel() : path_(std::filesystem::temp_directory_path() / ("autoglm-tiny-" + std::to_string(getpid()))) {
    add("embedding", {kVocabSize, kHiddenSize});
    add("layers.0.attention_norm", {kHiddenSize});
    for (const char* name : {"q", "k", "v", "o"}) {
      add(std::string("layers.0.attention.") + name, {kHiddenSize, kHiddenSize});
    }
    add("layers.0.mlp_norm", {kHiddenSize});
    for (const char* name : {"gate", "up", "down"}) {
      add(std::string("layers.0.mlp.") + name, {kHiddenSize, kHiddenSize});
    }
    add("final_norm", {kHiddenSize});
    std::ofstream file(path_, std::ios::binary);
    file.write(reinterpret_cast<const char*>(values_.data()),
               static_cast<std::streamsize>(values_.size() * sizeof(float)));
    for (auto& buffer : plans) buffer.resize(256);
    for (auto& buffer : results)
      buffer.resize(abi::kResultHeaderWords + (2 + abi::Limits::maxStepDrafts) * abi::Limits::resultRowWords);
  }
  ~TinyModel() { std::filesystem::remove(path_); }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;

  LoadRequest request() {
    LoadRequest request;
    request.spec.vocab_size = kVocabSize;
    request.spec.hidden_size = kHiddenSize;
    request.spec.context_length = 64;
    const NormSpec norm{.kind = NormKind::rms, .epsilon = 1e-5F};
    request.spec.layers = {{.attention = {.num_q_heads = 2,
                                          .num_kv_heads = 2,
                                          .head_dim = 16,
                                          .value_dim = 16,
                                          .scale = 0.25F,
                                          .qk_norm = {},
                                          .sliding_window = {},
                                          .soft_cap = {},
                                          .rope_table = {}},
                            .mlp = {.intermediate_size = kHiddenSize},
                            .norm = norm}};
    request.spec.final_norm = norm;
    request.spec.head = HeadSpec{.is_tied = true, .soft_cap = {}};
    request.files = {test::model_file_at(path_)};
    request.weights = weights_;
    request.num_pages = 8;
    request.max_rows = 2;
    request.max_step_tokens = 32;
    for (size_t slot = 0; slot < plans.size(); ++slot) {
      request.plans[slot] = plans[slot];
      request.results[slot] = results[slot];
    }
    request.cancel = &cancel;
    return request;
  }

  std::array<std::vector<int32_t>, abi::Limits::queueDepth> plans;
  std::array<std::vector<int32_t>, abi::Limits::queueDepth> results;
  int32_t cancel = 0;

 private:
  void add(const std::string& role, std::vector<int64_t> shape) {
    const int64_t count = shape.size() == 2 ? shape[0] * shape[1] : shape[0];
    WeightSource source;
    source.slices = {{.file = 0,
                      .offset = static_cast<int64_t>(values_.size() * sizeof(float)),
                      .num_bytes = count * static_cast<int64_t>(sizeof(float))}};
    source.shape = std::move(shape);
    weights_[role] = source;
    std::uniform_real_distribution<float> uniform(-0.3F, 0.3F);
    for (int64_t i = 0; i < count; ++i)
      values_.push_back(uniform(random_) + (source.shape.size() == 1 ? 1.0F : 0.0F));
  }

  std::string path_;
  std::mt19937 random_{7};
  std::vector<float> values_;
  WeightMap weights_;
};

}  // namespace autoglm
