#include <algorithm>

#include "cuda/attention/attention.h"

namespace autoglm::cuda {
namespace {

// The keys that a tile's pairs see, from the start of a split.
struct Keys {
  int32_t first;
  int32_t end;
};

Keys visible_keys(const AttentionWork& tile, const AttentionGrouping& grouping) {
  const auto first_position = static_cast<int32_t>(tile.start + tile.first_pair / grouping.heads_per_group);
  const auto last_position =
      static_cast<int32_t>(tile.start + (tile.first_pair + tile.num_pairs - 1) / grouping.heads_per_group);
  Keys keys{0, grouping.is_causal ? last_position + 1 : tile.seq_len};
  if (grouping.sliding_window > 0) {
    const int64_t oldest = std::max<int64_t>(0, first_position - grouping.sliding_window + 1);
    keys.first = static_cast<int32_t>(oldest / kSplitKeys * kSplitKeys);
  }
  return keys;
}

void add_decode_tile(AttentionWork tile, const Keys& keys, AttentionPlan& plan) {
  tile.num_splits = static_cast<int32_t>(ceil_div(keys.end - keys.first, kSplitKeys));
  tile.partial = plan.num_partials;
  plan.num_partials += tile.num_splits;
  for (tile.split = 0; tile.split < tile.num_splits; ++tile.split) {
    tile.first_key = keys.first + tile.split * kSplitKeys;
    tile.end_key = std::min(tile.first_key + kSplitKeys, keys.end);
    plan.decode.push_back(tile);
  }
}

}  // namespace

AttentionPlan plan_attention(std::span<const SequenceSlice> slices, std::span<const int64_t> page_tables,
                             const AttentionGrouping& grouping) {
  AttentionPlan plan;
  for (size_t i = 0; i < slices.size(); ++i) {
    const SequenceSlice& slice = slices[i];
    const int64_t num_pairs = slice.count * grouping.heads_per_group;
    const bool is_decode = slice.count == 1 || num_pairs <= kMaxDecodedPairs;
    const int64_t tile_pairs = is_decode ? kDecodePairs : grouping.prefill_pairs;
    for (int64_t first = 0; first < num_pairs; first += tile_pairs) {
      AttentionWork tile;
      tile.page_table = page_tables[i];
      tile.first_row = static_cast<int32_t>(slice.first_row);
      tile.first_pair = static_cast<int32_t>(first);
      tile.num_pairs = static_cast<int32_t>(std::min(tile_pairs, num_pairs - first));
      tile.start = static_cast<int32_t>(slice.start);
      tile.seq_len = static_cast<int32_t>(slice.start + slice.count);
      const Keys keys = visible_keys(tile, grouping);
      if (is_decode) {
        add_decode_tile(tile, keys, plan);
      } else {
        tile.first_key = keys.first;
        tile.end_key = keys.end;
        plan.prefill.push_back(tile);
      }
    }
  }
  // The longest first: what is left for the end of a grid is short.
  std::ranges::stable_sort(plan.prefill, std::ranges::greater{},
                           [](const AttentionWork& tile) { return tile.end_key - tile.first_key; });
  return plan;
}

}  // namespace autoglm::cuda
