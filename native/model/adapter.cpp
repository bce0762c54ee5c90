#include "model/adapter.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "model/stored_tensor.h"
#include "quant/packed_matrix.h"
#include "quant/repack.h"

namespace autoglm {
namespace {

constexpr const char* kProductNames[kNumProducts] = {"qkv", "o", "gate_up", "down"};

std::string name_of(const AdapterPartSource& part) {
  return "the adapter's layers." + std::to_string(part.layer) + "." +
         kProductNames[static_cast<size_t>(part.product)];
}

[[noreturn]] void refuse(const AdapterPartSource& part, const std::string& complaint) {
  throw Error(ErrorCode::invalid_parameter, name_of(part) + " " + complaint);
}

// Adapters are small: they keep the precision of their file.
PackedFormat packed_format(const WeightSource& source) {
  return choose_packed_format(source.format, Precision::exact);
}

void check_matrix(const AdapterPartSource& part, const WeightSource& source) {
  if (source.shape.size() != 2) refuse(part, "is no matrix");
  if (packed_format(source).is_quantized() || source.quantization)
    refuse(part, "is quantized; expected floats");
}

void check_part(const DecoderSpec& spec, const AdapterPartSource& part) {
  if (part.layer >= static_cast<int64_t>(spec.layers.size())) {
    refuse(part, "lies behind the model's " + std::to_string(spec.layers.size()) + " layers");
  }
  const LayerSpec& layer = spec.layers[static_cast<size_t>(part.layer)];
  if (layer.attention.latent && (part.product == Product::qkv || part.product == Product::o))
    refuse(part, "belongs to latent attention");
  if (layer.moe && (part.product == Product::gate_up || part.product == Product::down))
    refuse(part, "belongs to a mixture of experts");
  if (layer.attention.latent && (part.product == Product::qkv || part.product == Product::o))
    refuse(part, "belongs to latent attention");
  check_matrix(part, part.a);
  check_matrix(part, part.b);
  const ProductShape shape = product_shape(spec, layer, part.product);
  const int64_t rank = part.a.shape[0];
  const int64_t num_cols = part.b.shape[0];
  if (rank > kMaxAdapterRank || part.b.shape[1] != rank || part.a.shape[1] != shape.in ||
      part.first_col > shape.out || num_cols > shape.out - part.first_col) {
    refuse(part, "has matrices of [" + std::to_string(rank) + ", " + std::to_string(part.a.shape[1]) +
                     "] and [" + std::to_string(num_cols) + ", " + std::to_string(part.b.shape[1]) +
                     "] from column " + std::to_string(part.first_col) + " on, the product is [" +
                     std::to_string(shape.out) + ", " + std::to_string(shape.in) + "]");
  }
  if (!std::isfinite(part.scale)) refuse(part, "has a scale that is not finite");
}

void pack(const AdapterPartSource& part, const WeightSource& source, PackedMatrix& matrix,
          std::span<const WeightFile> files, ThreadPool& pool) {
  const NamedSource named{.role = name_of(part), .source = &source, .num_rows = matrix.n};
  const StoredTensor tensor(named, matrix.k, files);
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.num_bytes()));
  tensor.read(0, bytes);
  const StoredRows rows{.format = source.format,
                        .bytes = bytes,
                        .num_rows = matrix.n,
                        .num_cols = matrix.k,
                        .row_order = source.row_order,
                        .is_transposed = source.is_transposed,
                        .first_stored_row = 0,
                        .num_stored_rows = tensor.num_stored_rows()};
  pack_matrix(pool, matrix, {&rows, 1});
}

}  // namespace

ProductShape product_shape(const DecoderSpec& spec, const LayerSpec& layer, Product product) {
  const AttentionSpec& attention = layer.attention;
  switch (product) {
    case Product::qkv:
      return {spec.hidden_size, attention.q_cols() + attention.k_cols() + attention.v_cols()};
    case Product::o:
      return {attention.attended_cols(), spec.hidden_size};
    case Product::gate_up:
      return {spec.hidden_size, layer.mlp.gate_up_cols()};
    case Product::down:
      return {layer.mlp.intermediate_size, spec.hidden_size};
  }
  throw Error(ErrorCode::internal, "a product that does not exist");
}

void check_adapter_request(const DecoderSpec& spec, const AdapterRequest& request) {
  for (const AdapterPartSource& part : request.parts) check_part(spec, part);
}

Adapter::Adapter(const AdapterRequest& request, const std::function<void()>& check) {
  std::vector<WeightFile> files;
  files.reserve(request.files.size());
  for (const ModelFile& file : request.files) files.emplace_back(file);
  allocate(request);
  ThreadPool pool(1);  // the cores belong to the requests that run meanwhile
  std::vector<std::array<size_t, kNumProducts>> num_packed(layers_.size());
  for (const AdapterPartSource& part : request.parts) {
    check();
    const auto layer = static_cast<size_t>(part.layer);
    const auto product = static_cast<size_t>(part.product);
    LowRank& addition = layers_[layer][product][num_packed[layer][product]++];
    pack(part, part.a, addition.a, files, pool);
    pack(part, part.b, addition.b, files, pool);
  }
  for (const WeightFile& file : files) file.check_unchanged();
}

void Adapter::allocate(const AdapterRequest& request) {
  const auto bytes_of = [](const WeightSource& source) {
    return packed_matrix_bytes(packed_format(source), source.shape[0], source.shape[1]);
  };
  int64_t total = 0;
  for (const AdapterPartSource& part : request.parts) {
    total = checked_add(total, checked_add(bytes_of(part.a), bytes_of(part.b), "bytes of an adapter"),
                        "bytes of an adapter");
  }
  arena_ = MemoryRegion(total);
  std::byte* next = arena_.data();
  const auto place = [&](const WeightSource& source) {
    const auto num_bytes = static_cast<size_t>(bytes_of(source));
    std::byte* const memory = std::exchange(next, next + num_bytes);
    return make_packed_matrix(packed_format(source), Precision::exact, source.shape[0], source.shape[1],
                              {memory, num_bytes});
  };
  for (const AdapterPartSource& part : request.parts) {
    const auto layer = static_cast<size_t>(part.layer);
    layers_.resize(std::max(layers_.size(), layer + 1));
    const PackedMatrix a = place(part.a);
    layers_[layer][static_cast<size_t>(part.product)].push_back(
        {.a = a, .b = place(part.b), .first_col = part.first_col, .scale = part.scale});
  }
}

const std::vector<LowRank>& Adapter::additions(size_t layer, Product product) const {
  static const std::vector<LowRank> kNone;
  return layer < layers_.size() ? layers_[layer][static_cast<size_t>(product)] : kNone;
}

}  // namespace autoglm
