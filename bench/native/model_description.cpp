#include "model_description.h"

#include <fstream>
#include <stdexcept>

namespace autoglm {
namespace {

class Words {
 public:
  explicit Words(const std::string& path) : path_(path), in_(path) {}

  template <typename Value>
  Value next() {
    Value value;
    if (!(in_ >> value)) throw std::runtime_error(path_ + " ends early or has a word that is no number");
    return value;
  }

  void expect(const std::string& word) {
    if (const auto found = next<std::string>(); found != word)
      throw std::runtime_error(path_ + ": expected " + word + ", found " + found);
  }

 private:
  std::string path_;
  std::ifstream in_;
};

StoredFormat format_of(const std::string& name) {
  for (size_t i = 0; i < std::size(kStoredFormats); ++i) {
    if (kStoredFormats[i].name == name) return static_cast<StoredFormat>(i);
  }
  throw std::runtime_error("no stored format is called " + name);
}

DecoderSpec read_spec(Words& words) {
  DecoderSpec spec;
  words.expect("spec");
  spec.vocab_size = words.next<int64_t>();
  spec.hidden_size = words.next<int64_t>();
  spec.context_length = words.next<int64_t>();
  const auto num_layers = words.next<size_t>();
  LayerSpec layer;
  layer.attention.num_q_heads = words.next<int64_t>();
  layer.attention.num_kv_heads = words.next<int64_t>();
  layer.attention.head_dim = layer.attention.value_dim = words.next<int64_t>();
  layer.attention.scale = words.next<float>();
  layer.attention.rope_table = 0;
  layer.mlp.intermediate_size = words.next<int64_t>();
  layer.norm.epsilon = words.next<float>();
  HeadSpec head;
  head.is_tied = words.next<int>() != 0;
  spec.layers.assign(num_layers, layer);
  spec.final_norm = layer.norm;
  spec.head = head;
  words.expect("rope");
  RopeTable table;
  table.rotary_dim = words.next<int64_t>();
  table.style = words.next<std::string>() == "interleaved" ? RopeStyle::interleaved : RopeStyle::half_split;
  for (int64_t i = 0; i < table.rotary_dim / 2; ++i) table.frequencies.push_back(words.next<double>());
  spec.rope_tables.push_back(table);
  return spec;
}

WeightSource read_source(Words& words) {
  WeightSource source;
  source.format = format_of(words.next<std::string>());
  source.shape.resize(words.next<size_t>());
  for (int64_t& size : source.shape) size = words.next<int64_t>();
  source.slices.resize(words.next<size_t>());
  for (FileSlice& slice : source.slices) {
    slice.offset = words.next<int64_t>();
    slice.num_bytes = words.next<int64_t>();
  }
  source.row_order.resize(words.next<size_t>());
  for (int32_t& row : source.row_order) row = words.next<int32_t>();
  return source;
}

}  // namespace

LoadRequest read_description(const std::string& path, const std::string& model_file) {
  Words words(path);
  LoadRequest request;
  request.spec = read_spec(words);
  words.expect("file");
  ModelFile file{.path = model_file};
  file.size = words.next<int64_t>();
  file.mtime_ms = words.next<double>();
  request.files.push_back(file);
  words.expect("tensors");
  for (auto left = words.next<size_t>(); left > 0; --left) {
    const auto role = words.next<std::string>();
    request.weights[role] = read_source(words);
  }
  return request;
}

}  // namespace autoglm
