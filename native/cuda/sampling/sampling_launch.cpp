#include "cuda/sampling/sampling.h"
#include "cuda/sampling/sampling_storage.h"

namespace autoglm::cuda {
namespace {

// One block for each slice of each row.
LaunchShape slice_launch(const SamplingArgs& args, const char* kernel, size_t shared_bytes) {
  if (args.num_rows == 0) return {};
  return {.kernel = kernel,
          .grid_x = static_cast<unsigned>(slices_of(args.vocab_size)),
          .grid_y = static_cast<unsigned>(args.num_rows),
          .num_threads = kSamplingThreads,
          .shared_bytes = shared_bytes};
}

}  // namespace

SamplingLayout sampling_layout(int64_t max_rows, int64_t max_slots, int64_t vocab_size) {
  SamplingLayout layout;
  int64_t end = 0;
  const auto take = [&end](int64_t count, size_t size) {
    constexpr int64_t kAlignment = 16;
    const int64_t start = end;
    end += ceil_div(count * static_cast<int64_t>(size), kAlignment) * kAlignment;
    return start;
  };
  const int64_t num_slices = max_rows * slices_of(vocab_size);
  layout.tickets = take(max_rows, sizeof(uint32_t));
  layout.list_counts = take(max_rows, sizeof(uint32_t));
  layout.counts = take(max_slots * padded_vocab(vocab_size), sizeof(uint32_t));
  layout.num_zeroed = end;
  layout.states = take(max_rows, sizeof(RowState));
  layout.partials = take(num_slices, sizeof(SlicePartial));
  layout.tops = take(num_slices * kMaxTopTokens, sizeof(uint64_t));
  layout.slice_masses = take(num_slices, sizeof(uint64_t));
  layout.bins = take(num_slices, sizeof(SliceBins));
  layout.lists = take(max_rows * kListTokens, sizeof(uint64_t));
  layout.adjusted = take(max_slots * padded_vocab(vocab_size), sizeof(float));
  layout.num_bytes = end;
  return layout;
}

LaunchShape sampling_count_launch(const SamplingArgs& args) {
  if (args.num_rows == 0 || !args.has_adjusted_rows) return {};
  constexpr unsigned kBlocksPerRow = 8;  // the longest histories hold some 2^17 tokens: 32 a thread
  return {.kernel = "sampling_count",
          .grid_x = kBlocksPerRow,
          .grid_y = static_cast<unsigned>(args.num_rows),
          .num_threads = kSamplingThreads};
}

LaunchShape sampling_scan_launch(const SamplingArgs& args) {
  return slice_launch(args, "sampling_scan", sizeof(ScanStorage));
}

LaunchShape sampling_weigh_launch(const SamplingArgs& args) {
  return args.has_drawn_rows ? slice_launch(args, "sampling_weigh", sizeof(WeighStorage)) : LaunchShape{};
}

LaunchShape sampling_limit_launch(const SamplingArgs& args) {
  return args.has_limited_rows ? slice_launch(args, "sampling_limit", sizeof(LimitStorage)) : LaunchShape{};
}

LaunchShape gather_tokens_launch(const GatherTokensArgs& args) {
  if (args.num_ids == 0) return {};
  constexpr int64_t kThreads = 256;
  return {.kernel = "gather_tokens",
          .grid_x = static_cast<unsigned>(ceil_div(args.num_ids, kThreads)),
          .num_threads = kThreads};
}

}  // namespace autoglm::cuda
