#include "model/gpu/device_kv_pool.h"

#include <utility>

#include "base/checked.h"

namespace autoglm::gpu {

cuda::KvLayout kv_layout(const AttentionSpec& attention, cuda::KvType type) {
  return {.num_kv_heads = static_cast<int32_t>(attention.num_kv_heads),
          .head_dim = static_cast<int32_t>(attention.head_dim),
          .type = type,
          .is_latent = attention.latent.has_value()};
}

std::vector<int64_t> device_page_bytes(const DecoderSpec& spec, cuda::KvType type, int64_t first_layer) {
  std::vector<int64_t> result(spec.layers.size(), 0);
  for (auto i = static_cast<size_t>(first_layer); i < result.size(); ++i)
    result[i] = kv_layout(spec.layers[i].attention, type).page_bytes();
  return result;
}

DeviceKvPool::DeviceKvPool(std::shared_ptr<cuda::Context> context, std::span<const int64_t> page_bytes,
                           int64_t num_pages) {
  size_t total = 0;
  std::vector<size_t> layer_bytes;
  for (const int64_t bytes : page_bytes) {
    layer_bytes.push_back(static_cast<size_t>(checked_mul(bytes, num_pages, "bytes of the KV cache")));
    total += cuda::Arena::padded(layer_bytes.back());
  }
  arena_ = cuda::Arena(std::move(context), total);
  for (const size_t bytes : layer_bytes) layers_.push_back(arena_.take(bytes));
}

}  // namespace autoglm::gpu
