// What the sampling kernels share: a row's logits, its part of the workspace, and sums and searches of a
// block.
#pragma once

#include "base/philox.h"
#include "cuda/device/ptx.cuh"
#include "cuda/sampling/sampling_storage.h"

namespace autoglm::cuda {

inline constexpr float kForbidden = -__builtin_huge_valf();

struct alignas(16) Float4 {
  float value[kTokensPerLoad];
};

__device__ inline int warp_of_thread() { return thread_x() / kWarpSize; }
__device__ inline int lane_of_thread() { return thread_x() % kWarpSize; }

// A row of a step, with its part of the workspace.
struct RowView {
  const SamplingArgs& args;
  const SamplingRow& row;
  int row_idx;
  int num_slices;

  __device__ RowView(const SamplingArgs& args, int row_idx)
      : args(args),
        row(args.rows[row_idx]),
        row_idx(row_idx),
        num_slices(static_cast<int>(slices_of(args.vocab_size))) {}

  template <typename T>
  __device__ T* at(int64_t offset, int64_t index) const {
    return reinterpret_cast<T*>(static_cast<char*>(args.workspace) + offset) + index;
  }
  __device__ uint32_t* ticket() const { return at<uint32_t>(args.layout.tickets, row_idx); }
  __device__ uint32_t* list_count() const { return at<uint32_t>(args.layout.list_counts, row_idx); }
  __device__ uint32_t* counts() const {
    return at<uint32_t>(args.layout.counts, row.adjusted_slot * padded_vocab(args.vocab_size));
  }
  __device__ float* adjusted() const {
    return at<float>(args.layout.adjusted, row.adjusted_slot * padded_vocab(args.vocab_size));
  }
  __device__ RowState& state() const { return *at<RowState>(args.layout.states, row_idx); }
  __device__ int64_t slice(int slice) const { return int64_t{row_idx} * num_slices + slice; }
  __device__ SlicePartial& partial(int index) const {
    return *at<SlicePartial>(args.layout.partials, slice(index));
  }
  __device__ uint64_t* tops(int index) const {
    return at<uint64_t>(args.layout.tops, slice(index) * kMaxTopTokens);
  }
  __device__ uint64_t& slice_mass(int index) const {
    return *at<uint64_t>(args.layout.slice_masses, slice(index));
  }
  __device__ SliceBins& bins(int index) const { return *at<SliceBins>(args.layout.bins, slice(index)); }
  __device__ uint64_t* list() const {
    return at<uint64_t>(args.layout.lists, int64_t{row_idx} * kListTokens);
  }

  __device__ float* raw_logits() const { return args.logits + row_idx * args.row_stride; }
  __device__ bool is_adjusted() const { return row.adjusted_slot >= 0; }
  __device__ bool limits_count() const { return row.top_k > 0 && row.top_k < args.vocab_size; }
  __device__ bool is_limited() const { return limits_count() || row.top_p < 1 || row.min_p > 0; }
};

// Which of the tokens from `token` on, a multiple of 4, exist and are allowed: one bit each.
__device__ inline uint32_t allowed_bits(const RowView& view, int token) {
  const int num_left = view.args.vocab_size - token;
  if (num_left <= 0) return 0;
  const uint32_t existing = num_left >= kTokensPerLoad ? 0xfu : (1u << num_left) - 1;
  if (view.row.first_mask_word < 0) return existing;
  return existing & view.args.masks[view.row.first_mask_word + token / 32] >> (token % 32);
}

// Four logits as they are after the scan; -infinity for tokens that do not exist or are not allowed.
__device__ inline Float4 load_logits(const RowView& view, int token) {
  Float4 out = {{kForbidden, kForbidden, kForbidden, kForbidden}};
  const uint32_t allowed = allowed_bits(view, token);
  if (allowed == 0) return out;
  const float* logits = view.is_adjusted() ? view.adjusted() : view.raw_logits();
  const auto loaded = *reinterpret_cast<const Float4*>(logits + token);
#pragma unroll
  for (int i = 0; i < kTokensPerLoad; ++i) {
    if ((allowed >> i & 1) != 0) out.value[i] = loaded.value[i];
  }
  return out;
}

// The first of the four tokens that a thread of a slice loads in turn `load`.
__device__ inline int token_of_load(int slice, int load) {
  return slice * kSliceTokens + (load * kSamplingThreads + thread_x()) * kTokensPerLoad;
}

__device__ inline float weight_of(float logit, float max_logit, float octaves) {
  return weight_of_octaves<float, uint32_t>((logit - max_logit) * octaves);
}

// How the tokens of one row weigh, and into which bins they fall.
struct Weigher {
  float max_logit;
  float octaves;  // per unit of logit
  float bins_per_octave;
  uint64_t least;  // that min-p keeps

  __device__ Weigher(const RowView& view, const RowState& state)
      : max_logit(state.max_logit),
        octaves(octaves_per_logit(view.row.temperature)),
        bins_per_octave(0),
        least(least_weight(view.row.min_p)) {
    const float depth = (max_logit - state.lowest_logit) * octaves;
    const float range = depth < kMaxOctaves ? depth : kMaxOctaves;
    if (range > 0) bins_per_octave = static_cast<float>(kBins - 1) / range;
  }

  __device__ uint64_t weight(float logit) const { return whole_weight(weight_of(logit, max_logit, octaves)); }
  // Rises, or stays, as the logit falls; kBins where weights are 0.
  __device__ int bin(float logit) const {
    const float depth = (max_logit - logit) * octaves;
    if (!(depth <= kMaxOctaves)) return kBins;
    const int bin = static_cast<int>(depth * bins_per_octave);
    return bin < kBins ? bin : kBins - 1;
  }
};

// The largest value of the block, in every thread.
__device__ inline uint64_t largest_of_block(uint64_t value, BlockScratch& scratch) {
  const auto high = static_cast<uint32_t>(value >> 32);
  const uint32_t largest_high = largest_of_warp(high);
  const uint32_t low = largest_of_warp(high == largest_high ? static_cast<uint32_t>(value) : 0);
  if (lane_of_thread() == 0) scratch.of_warps[warp_of_thread()] = uint64_t{largest_high} << 32 | low;
  sync_threads();
  uint64_t largest = 0;
#pragma unroll 4  // all 16 at once would take 32 registers
  for (int warp = 0; warp < kSamplingWarps; ++warp) {
    if (scratch.of_warps[warp] > largest) largest = scratch.of_warps[warp];
  }
  sync_threads();
  return largest;
}

// Sums of a block: of the values of all threads before this one, and of all.
struct BlockSum {
  uint64_t before;
  uint64_t total;
};
__device__ inline BlockSum sum_of_block(uint64_t value, BlockScratch& scratch) {
  uint64_t sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const uint64_t other = shuffle(sum, (lane_of_thread() - distance) & (kWarpSize - 1));
    if (lane_of_thread() >= distance) sum += other;
  }
  if (lane_of_thread() == kWarpSize - 1) scratch.of_warps[warp_of_thread()] = sum;
  sync_threads();
  BlockSum out{sum - value, 0};
#pragma unroll 4  // all 16 at once would take 32 registers
  for (int warp = 0; warp < kSamplingWarps; ++warp) {
    if (warp < warp_of_thread()) out.before += scratch.of_warps[warp];
    out.total += scratch.of_warps[warp];
  }
  sync_threads();
  return out;
}

// True in the block that finishes the row last: it sees what all others wrote.
__device__ inline bool is_last_slice(const RowView& view, BlockScratch& scratch) {
  sync_threads();
  if (thread_x() == 0) {
    const bool is_last = take_ticket(view.ticket()) + 1 == static_cast<uint32_t>(view.num_slices);
    if (is_last) *view.ticket() = 0;
    scratch.is_last = is_last ? 1 : 0;
  }
  sync_threads();
  return scratch.is_last != 0;
}

template <int kClasses>
__device__ void clear(ClassSums<kClasses>& sums) {
  for (int i = thread_x(); i < kClasses; i += kSamplingThreads) {
    sums.counts[i] = 0;
    sums.low[i] = 0;
    sums.high[i] = 0;
  }
}
template <int kClasses>
__device__ void add(ClassSums<kClasses>& sums, int index, uint64_t weight) {
  add_shared(&sums.counts[index], 1);
  add_shared(&sums.low[index], static_cast<uint32_t>(weight) & ((1u << kLowBits) - 1));
  add_shared(&sums.high[index], static_cast<uint32_t>(weight >> kLowBits));
}
template <int kClasses>
__device__ uint64_t mass_of(const ClassSums<kClasses>& sums, int index) {
  return (uint64_t{sums.high[index]} << kLowBits) + sums.low[index];
}

// The answer for a row, by one thread.
__device__ inline void write_token(const RowView& view, const RowState& state, int token) {
  SampledRow& out = view.args.out[view.row_idx];
  out.token = token;
  if (view.row.num_logprobs >= 0 || view.row.given_token >= 0) {
    out.logprob = static_cast<float>(view.raw_logits()[token] - state.normalizer);
  }
  if (view.row.appends_token && view.row.given_token < 0) {
    view.args.tokens[view.row.first_token + view.row.num_tokens] = token;
  }
}

}  // namespace autoglm::cuda
