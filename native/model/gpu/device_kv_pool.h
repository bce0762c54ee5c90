// KV pages in the memory of a GPU: where each layer's lie, and what they take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cuda/attention/page_layout.h"
#include "cuda/driver/memory.h"
#include "model/decoder_spec.h"

namespace autoglm::gpu {

// The KV pages of layers; page p of a layer is at layer(l) + p * its page_bytes.
class DeviceKvPool {
 public:
  DeviceKvPool(std::shared_ptr<cuda::Context> context, std::span<const int64_t> page_bytes,
               int64_t num_pages);
  std::byte* layer(size_t index) const { return layers_[index]; }
  int64_t num_bytes() const { return static_cast<int64_t>(arena_.size()); }

 private:
  cuda::Arena arena_;
  std::vector<std::byte*> layers_;
};

// The pages of a layer on the device.
cuda::KvLayout kv_layout(const AttentionSpec& attention, cuda::KvType type);
// By layer; 0 for those before `first_layer`.
std::vector<int64_t> device_page_bytes(const DecoderSpec& spec, cuda::KvType type, int64_t first_layer);

}  // namespace autoglm::gpu
