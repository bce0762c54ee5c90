#include "model/gpu/layer_split.h"

#include "base/checked.h"

namespace autoglm::gpu {
namespace {

constexpr const char* kWhat = "bytes of a GPU's layers";

}  // namespace

int64_t split_bytes(std::span<const LayerCost> layers, const DeviceBudget& budget, const LayerSplit& split) {
  if (split.count == 0) return 0;
  int64_t total = checked_add(budget.reserve_bytes, budget.scratch_bytes, kWhat);
  for (int64_t i = split.first; i < split.first + split.count; ++i) {
    const LayerCost& layer = layers[static_cast<size_t>(i)];
    total = checked_add(total, layer.weight_bytes, kWhat);
    total = checked_add(total, checked_mul(layer.page_bytes, budget.num_pages, kWhat), kWhat);
  }
  const bool has_first = split.first == 0;
  const bool has_last = split.first + split.count == static_cast<int64_t>(layers.size());
  if (has_first || (has_last && budget.is_tied)) total = checked_add(total, budget.embedding_bytes, kWhat);
  if (has_last) total = checked_add(total, budget.head_bytes, kWhat);
  return total;
}

LayerSplit split_layers(std::span<const LayerCost> layers, const DeviceBudget& budget, GpuSide side) {
  const auto num_layers = static_cast<int64_t>(layers.size());
  for (int64_t count = num_layers; count > 0; --count) {
    const LayerSplit split{.first = side == GpuSide::first ? 0 : num_layers - count, .count = count};
    if (split_bytes(layers, budget, split) <= budget.free_bytes) return split;
  }
  return {.first = side == GpuSide::first ? 0 : num_layers, .count = 0};
}

}  // namespace autoglm::gpu
