// Which layers of a model a GPU takes when not all fit, as arithmetic alone.
#pragma once

#include <cstdint>
#include <span>

namespace autoglm::gpu {

struct LayerCost {
  int64_t weight_bytes = 0;
  int64_t page_bytes = 0;  // of one KV page of this layer
};

// What the GPU has room for, and what it needs whatever its layers are.
struct DeviceBudget {
  int64_t free_bytes = 0;
  int64_t reserve_bytes = 0;    // left alone: for graphs, and for whatever else uses the GPU
  int64_t scratch_bytes = 0;    // GpuScratch and the step's memory
  int64_t embedding_bytes = 0;  // with the norm behind it; where the GPU has the first layer
  int64_t head_bytes = 0;       // with the final norm; 0 where it shares the embedding's matrix
  bool is_tied = false;         // the head needs the embedding's matrix
  int64_t num_pages = 0;
};

// The GPU's layers are a run from the first or up to the last one, so that the hidden state crosses once. The
// head stays with the last layer.
enum class GpuSide : uint8_t { first, last };

// Layers [first, first + count) are the GPU's.
struct LayerSplit {
  int64_t first = 0;
  int64_t count = 0;

  bool operator==(const LayerSplit&) const = default;
};

// As many layers as fit, all of them if possible.
LayerSplit split_layers(std::span<const LayerCost> layers, const DeviceBudget& budget, GpuSide side);

// What the GPU's part of a split takes.
int64_t split_bytes(std::span<const LayerCost> layers, const DeviceBudget& budget, const LayerSplit& split);

}  // namespace autoglm::gpu
