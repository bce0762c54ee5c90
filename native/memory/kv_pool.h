// The KV pages of one model: one region for all layers. A page id names 16 tokens in every layer at once;
// what a page looks like inside is the attention kernel's business.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memory/region.h"

namespace autoglm {

class KvPool {
 public:
  // `page_bytes[l]` is the size of one page of layer l. Memory is committed when a page is first written.
  // Throws out_of_memory.
  KvPool(std::span<const int64_t> page_bytes, int64_t num_pages);

  // Page p of a layer starts at layer(l) + p * page_bytes(l).
  std::byte* layer(size_t layer) const { return region_.data() + layer_offsets_[layer]; }
  int64_t num_pages() const { return num_pages_; }
  int64_t num_bytes() const { return region_.size(); }

 private:
  int64_t num_pages_;
  std::vector<int64_t> layer_offsets_;
  MemoryRegion region_;
};

}  // namespace autoglm
