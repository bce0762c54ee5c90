#include <algorithm>

#include "cuda/attention/attention.h"
#include "cuda/attention/attention_storage.h"

namespace autoglm::cuda {
namespace {

// The keys that pairs [first_pair, last_pair) of a slice see, from the start of a split.
struct Keys {
  int32_t first;
  int32_t end;
};

Keys visible_keys(const AttentionWork& tile, int64_t group, bool is_causal, int64_t sliding_window) {
  const auto first_position = static_cast<int32_t>(tile.start + tile.first_pair / group);
  const auto last_position =
      static_cast<int32_t>(tile.start + (tile.first_pair + tile.num_pairs - 1) / group);
  Keys keys{0, is_causal ? last_position + 1 : tile.seq_len};
  if (sliding_window > 0) {
    const int64_t oldest = std::max<int64_t>(0, first_position - sliding_window + 1);
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

template <int kHeadDim>
LaunchShape launch_of(const AttentionArgs& args, bool is_decode, const char* kernel) {
  return {.kernel = kernel,
          .grid_x = static_cast<unsigned>(args.num_work),
          .grid_y = static_cast<unsigned>(args.num_kv_heads),
          .num_threads = kAttentionThreads,
          .shared_bytes = is_decode ? sizeof(DecodeStorage<kHeadDim>) : sizeof(PrefillStorage<kHeadDim>)};
}

}  // namespace

AttentionPlan plan_attention(std::span<const SequenceSlice> slices, std::span<const int64_t> page_tables,
                             int64_t heads_per_group, bool is_causal, int64_t sliding_window) {
  AttentionPlan plan;
  for (size_t i = 0; i < slices.size(); ++i) {
    const SequenceSlice& slice = slices[i];
    const int64_t num_pairs = slice.count * heads_per_group;
    const bool is_decode = num_pairs <= kMaxDecodedPairs;
    const int64_t tile_pairs = is_decode ? kDecodePairs : kPrefillPairs;
    for (int64_t first = 0; first < num_pairs; first += tile_pairs) {
      AttentionWork tile;
      tile.page_table = page_tables[i];
      tile.first_row = static_cast<int32_t>(slice.first_row);
      tile.first_pair = static_cast<int32_t>(first);
      tile.num_pairs = static_cast<int32_t>(std::min(tile_pairs, num_pairs - first));
      tile.start = static_cast<int32_t>(slice.start);
      tile.seq_len = static_cast<int32_t>(slice.start + slice.count);
      const Keys keys = visible_keys(tile, heads_per_group, is_causal, sliding_window);
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

LaunchShape decode_launch(const AttentionArgs& args) {
  if (args.num_work == 0) return {};
  return args.head_dim == 64 ? launch_of<64>(args, true, "attention_decode_64")
                             : launch_of<128>(args, true, "attention_decode_128");
}

LaunchShape prefill_launch(const AttentionArgs& args) {
  if (args.num_work == 0) return {};
  return args.head_dim == 64 ? launch_of<64>(args, false, "attention_prefill_64")
                             : launch_of<128>(args, false, "attention_prefill_128");
}

}  // namespace autoglm::cuda
