#include "memory/kv_pool.h"

#include <string>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr int64_t kLayerAlignment = 4096;  // no two layers share a page of the system

}  // namespace

KvPool::KvPool(std::span<const int64_t> page_bytes, int64_t num_pages) : num_pages_(num_pages) {
  int64_t total = 0;
  layer_offsets_.reserve(page_bytes.size());
  for (const int64_t bytes : page_bytes) {
    layer_offsets_.push_back(total);
    int64_t layer_bytes = 0;
    if (__builtin_mul_overflow(bytes, num_pages, &layer_bytes) ||
        __builtin_add_overflow(layer_bytes, kLayerAlignment - 1, &layer_bytes) ||
        __builtin_add_overflow(total, layer_bytes / kLayerAlignment * kLayerAlignment, &total)) {
      throw Error(ErrorCode::out_of_memory,
                  "a KV cache of " + std::to_string(num_pages) + " pages exceeds any address space");
    }
  }
  region_ = MemoryRegion(total);
}

}  // namespace autoglm
