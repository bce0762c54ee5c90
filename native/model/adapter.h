// Low-rank adapters (LoRA): y += scale * B (A x) behind the products of a layer, for the rows of the requests
// that ask for it. The base weights stay as they are, so rows of different adapters share a step.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/packed_matrix.h"
#include "memory/region.h"
#include "model/decoder_spec.h"
#include "model/weight_source.h"

namespace autoglm {

inline constexpr int64_t kMaxAdapterRank = 256;

// The products of a dense layer. q, k and v, and gate and up, lie side by side in one output.
enum class Product : uint8_t { qkv, o, gate_up, down };
inline constexpr size_t kNumProducts = 4;

struct ProductShape {
  int64_t in = 0;
  int64_t out = 0;
};
ProductShape product_shape(const DecoderSpec& spec, const LayerSpec& layer, Product product);

// Where one addition comes from: NativeAdapterPart in lib/native/addon.ts.
struct AdapterPartSource {
  int64_t layer = 0;
  Product product = Product::qkv;
  int64_t first_col = 0;  // of the product's output
  float scale = 1;
  WeightSource a;  // [rank, in]
  WeightSource b;  // [columns, rank]
};

struct AdapterRequest {
  std::vector<ModelFile> files;
  std::vector<AdapterPartSource> parts;
};

// Throws invalid_parameter for parts that do not fit the model's products, for ranks above kMaxAdapterRank
// and for formats other than floats.
void check_adapter_request(const DecoderSpec& spec, const AdapterRequest& request);

struct LowRank {
  PackedMatrix a;
  PackedMatrix b;
  int64_t first_col = 0;
  float scale = 1;
};

class Adapter {
 public:
  // Reads and packs a checked request; `check` is called between tensors and throws to stop. Throws what
  // StoredTensor and WeightFile throw, and out_of_memory.
  Adapter(const AdapterRequest& request, const std::function<void()>& check);

  // The additions to one product, in the order of the request.
  const std::vector<LowRank>& additions(size_t layer, Product product) const;
  int64_t num_bytes() const { return arena_.size(); }

 private:
  void allocate(const AdapterRequest& request);

  MemoryRegion arena_;
  std::vector<std::array<std::vector<LowRank>, kNumProducts>> layers_;  // up to the last one with additions
};

}  // namespace autoglm
