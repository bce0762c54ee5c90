// sampling scan: per row the largest logit, and where asked for the log of the sum of exponentials and the
// likeliest tokens; then soft cap, mask, biases and penalties, and the token of greedy rows.
// Needs:    SamplingArgs; where rows have slots, after sampling_count.
// Rounding: tanh in f32; the sum of exponentials exact but for each weight's 2^-37 and the merge of slices
//           in f64; adjustments as base/sampling_math.h.
// Cost:     4 bytes read a logit, 4 more written with a soft cap, 4 read and 4 written for adjusted rows.
// Twin:     Sampler::sample and Sampler::adjust of runtime/sampler.cpp.
//
// One block takes a slice of 8192 tokens of a row and keeps it in registers; the one that finishes a row last
// merges its slices.
#include "cuda/sampling/sampling_block.cuh"

namespace autoglm::cuda {
namespace {

using Logits = Float4[kLoads];

__device__ float capped(float logit, float cap) { return cap * tanhf(logit / cap); }

// Reads the slice and caps it. False after a logit that is not finite.
__device__ bool load_slice(const RowView& view, int slice, Logits& logits) {
  bool is_finite = true;
  const float cap = view.args.soft_cap;
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
    const int token = token_of_load(slice, load);
    const int num_left = view.args.vocab_size - token;
    Float4 loaded = {};
    if (num_left > 0) {
      auto* raw = reinterpret_cast<Float4*>(view.raw_logits() + token);
      loaded = *raw;
      if (cap > 0) {
#pragma unroll
        for (float& each : loaded.value) each = capped(each, cap);
        *raw = loaded;
      }
    }
    const uint32_t allowed = allowed_bits(view, token);
#pragma unroll
    for (int i = 0; i < kTokensPerLoad; ++i) {
      const float logit = loaded.value[i];
      if (i < num_left && !(logit >= -FLT_MAX && logit <= FLT_MAX)) is_finite = false;
      logits[load].value[i] = (allowed >> i & 1) != 0 ? logit : kForbidden;
    }
  }
  return is_finite;
}

template <typename Visit>
__device__ void for_each(int slice, const Logits& logits, Visit&& visit) {
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
#pragma unroll
    for (int i = 0; i < kTokensPerLoad; ++i) visit(logits[load].value[i], token_of_load(slice, load) + i);
  }
}

__device__ uint64_t best_of_thread(int slice, const Logits& logits) {
  float best = kForbidden;
  int best_token = token_of_load(slice, 0);
  for_each(slice, logits, [&](float logit, int token) {
    if (!(logit > best)) return;
    best = logit;
    best_token = token;
  });
  return likelihood_rank(best, static_cast<uint32_t>(best_token));
}

// The largest `count` of the candidates, in falling order; 0 where there are no more.
__device__ void sort_largest(ScanStorage& storage, int num_candidates, int count, uint64_t* out) {
  uint64_t last = ~uint64_t{0};
  for (int place = 0; place < count; ++place) {
    uint64_t best = 0;
    for (int i = thread_x(); i < num_candidates; i += kSamplingThreads) {
      const uint64_t rank = storage.candidates[i];
      if (rank < last && rank > best) best = rank;
    }
    last = largest_of_block(best, storage.scratch);
    if (thread_x() == 0) out[place] = last;
  }
}

// The likeliest tokens of the slice are among those that are at least as likely as the best of the 20th best
// group: 20 groups have so likely a token, and nobody else has.
__device__ void find_tops(const RowView& view, int slice, const Logits& logits, ScanStorage& storage) {
  const int count = view.row.num_logprobs;
  uint64_t best = best_of_thread(slice, logits);
#pragma unroll
  for (int mask = kGroupThreads / 2; mask > 0; mask /= 2) {
    const uint64_t other = shuffle_xor(best, mask);
    if (other > best) best = other;
  }
  if (thread_x() % kGroupThreads == 0) storage.groups[thread_x() / kGroupThreads] = best;
  if (thread_x() == 0) storage.num_candidates = 0;
  sync_threads();
  if (thread_x() < kNumGroups) {
    const uint64_t own = storage.groups[thread_x()];
    int num_better = 0;
#pragma unroll 8
    for (const uint64_t each : storage.groups) num_better += each > own ? 1 : 0;
    if (num_better == count - 1) storage.scratch.found = own;
  }
  sync_threads();
  const uint64_t least = storage.scratch.found;
  const float least_logit = logit_of_rank(least);
  for_each(slice, logits, [&](float logit, int token) {
    if (!(logit >= least_logit) || logit == kForbidden) return;
    const uint64_t rank = likelihood_rank(logit, static_cast<uint32_t>(token));
    if (rank >= least) storage.candidates[take_shared(&storage.num_candidates, 1)] = rank;
  });
  sync_threads();
  sort_largest(storage, static_cast<int>(storage.num_candidates), count, view.tops(slice));
}

__device__ float bias_of(const RowView& view, int token, float logit) {
  const LogitBias* biases = view.args.biases + view.row.first_bias;
  int low = 0;
  int high = view.row.num_biases;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (biases[middle].token < token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  for (; low < view.row.num_biases && biases[low].token == token; ++low) {
    logit = biased_logit(logit, biases[low].value);
  }
  return logit;
}

struct alignas(16) Counts4 {
  uint32_t value[kTokensPerLoad];
};

__device__ float adjusted_logit(const RowView& view, int token, float logit, uint32_t count) {
  if (count == 0 || logit == kForbidden) return logit;
  if ((count & kHasBias) != 0) logit = bias_of(view, token, logit);
  if ((count & ~kHasBias) == 0) return logit;
  return penalized_logit(logit, view.row.penalties, static_cast<int32_t>(count & ~(kHasBias | kIsInPrompt)));
}

// Biases and penalties, by what sampling_count counted; also sets the counts back. Through memory, as few
// tokens have any: unrolled over registers the search for biases would be there 16 times.
__device__ void adjust_slice(const RowView& view, int slice, Logits& logits) {
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
    const int token = token_of_load(slice, load);
    if (token < view.args.vocab_size) *reinterpret_cast<Float4*>(view.adjusted() + token) = logits[load];
  }
#pragma unroll 1
  for (int load = 0; load < kLoads; ++load) {
    const int first = token_of_load(slice, load);
    if (first >= view.args.vocab_size) break;
    auto* counts = reinterpret_cast<Counts4*>(view.counts() + first);
    const Counts4 found = *counts;
    if ((found.value[0] | found.value[1] | found.value[2] | found.value[3]) == 0) continue;
#pragma unroll 1
    for (int token = first; token < first + kTokensPerLoad; ++token) {
      float& logit = view.adjusted()[token];
      logit = adjusted_logit(view, token, logit, view.counts()[token]);
    }
    *counts = Counts4{};
  }
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
    const int token = token_of_load(slice, load);
    if (token < view.args.vocab_size)
      logits[load] = *reinterpret_cast<const Float4*>(view.adjusted() + token);
  }
}

// The smallest finite logit; FLT_MAX when there is none.
__device__ float lowest_of_thread(int slice, const Logits& logits) {
  float lowest = FLT_MAX;
  for_each(slice, logits, [&](float logit, int) {
    if (logit > kForbidden && logit < lowest) lowest = logit;
  });
  return lowest;
}
__device__ float lowest_of_block(float lowest, BlockScratch& scratch) {
  return -logit_of_rank(largest_of_block(likelihood_rank(-lowest, 0), scratch));
}

__device__ uint64_t raw_mass_of_block(int slice, const Logits& logits, float raw_max, BlockScratch& scratch) {
  uint64_t mass = 0;
  if (raw_max > kForbidden) {
    for_each(slice, logits, [&](float logit, int) {
      mass += whole_weight(weight_of(logit, raw_max, octaves_per_logit(1)));
    });
  }
  return sum_of_block(mass, scratch).total;
}

// The log of the sum of exponentials of a row, from those of its slices: slice i in thread i.
__device__ double normalizer_of(const SlicePartial& own, BlockScratch& scratch) {
  const float raw_max = logit_of_rank(largest_of_block(likelihood_rank(own.raw_max, 0), scratch));
  const float factor = weight_of(own.raw_max, raw_max, octaves_per_logit(1)) / kUnitWeight;
  const auto mass = static_cast<uint64_t>(static_cast<double>(own.raw_mass) * factor);
  return raw_max + log(static_cast<double>(sum_of_block(mass, scratch).total) / kUnitWeight);
}

// The likeliest tokens of the row are among those of its slices.
__device__ void write_tops(const RowView& view, double normalizer, ScanStorage& storage) {
  const int count = view.row.num_logprobs;
  for (int i = thread_x(); i < view.num_slices * count; i += kSamplingThreads) {
    storage.candidates[i] = view.tops(i / count)[i % count];
  }
  sync_threads();
  sort_largest(storage, view.num_slices * count, count, storage.groups);
  sync_threads();
  if (thread_x() >= count || storage.groups[thread_x()] == 0) return;
  const uint64_t rank = storage.groups[thread_x()];
  SampledRow& out = view.args.out[view.row_idx];
  out.top_tokens[thread_x()] = static_cast<int32_t>(token_of_rank(rank));
  out.top_logprobs[thread_x()] = static_cast<float>(logit_of_rank(rank) - normalizer);
  const bool is_last = thread_x() + 1 == count || storage.groups[thread_x() + 1] == 0;
  if (is_last) out.num_top = thread_x() + 1;
}

__device__ bool wants_logprobs(const SamplingRow& row) {
  return row.num_logprobs >= 0 || row.given_token >= 0;
}

__device__ void finish_scan(const RowView& view, ScanStorage& storage) {
  SlicePartial own{.raw_max = kForbidden, .lowest = FLT_MAX};
  if (thread_x() < view.num_slices) own = view.partial(thread_x());
  const uint64_t best = largest_of_block(own.best, storage.scratch);
  const float max_logit = logit_of_rank(best);
  SampledRow& out = view.args.out[view.row_idx];
  if (thread_x() == 0) {
    out.token = -1;
    out.logprob = 0;
    out.num_top = 0;
    out.status = best == kPoisoned         ? SamplingStatus::numeric_error
                 : max_logit == kForbidden ? SamplingStatus::nothing_allowed
                                           : SamplingStatus::fine;
    view.state().is_settled = 1;
  }
  if (best == kPoisoned || max_logit == kForbidden) return;
  RowState state;
  state.max_logit = max_logit;
  state.lowest_logit = lowest_of_block(own.lowest, storage.scratch);
  if (wants_logprobs(view.row)) state.normalizer = normalizer_of(own, storage.scratch);
  if (view.row.num_logprobs > 0) write_tops(view, state.normalizer, storage);
  state.is_settled = view.row.given_token >= 0 || view.row.temperature == 0 ? 1 : 0;
  if (thread_x() != 0) return;
  view.state() = state;
  if (state.is_settled == 0) return;
  const bool is_given = view.row.given_token >= 0;
  write_token(view, state, is_given ? view.row.given_token : static_cast<int>(token_of_rank(best)));
}

__device__ void scan_slice(const SamplingArgs& args) {
  auto& storage = shared_storage<ScanStorage>();
  const RowView view(args, block_y());
  const int slice = block_x();
  Logits logits;
  const bool is_finite = load_slice(view, slice, logits);
  SlicePartial partial;
  partial.best = largest_of_block(is_finite ? best_of_thread(slice, logits) : kPoisoned, storage.scratch);
  const bool is_poisoned = partial.best == kPoisoned;
  if (!is_poisoned && wants_logprobs(view.row)) {
    partial.raw_max = logit_of_rank(partial.best);
    partial.raw_mass = raw_mass_of_block(slice, logits, partial.raw_max, storage.scratch);
    if (view.row.num_logprobs > 0) find_tops(view, slice, logits, storage);
  }
  if (view.is_adjusted()) {
    adjust_slice(view, slice, logits);
    if (!is_poisoned) partial.best = largest_of_block(best_of_thread(slice, logits), storage.scratch);
  }
  partial.lowest = lowest_of_block(lowest_of_thread(slice, logits), storage.scratch);
  if (thread_x() == 0) view.partial(slice) = partial;
  if (is_last_slice(view, storage.scratch)) finish_scan(view, storage);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kSamplingThreads, 2)
    sampling_scan(const __grid_constant__ autoglm::cuda::SamplingArgs args) {
  autoglm::cuda::scan_slice(args);
}
