// sampling limit: the token of rows with top-k, top-p or min-p, drawn from what these keep.
// Needs:    SamplingArgs, after sampling_weigh.
// Rounding: none beyond the weights of base/sampling_math.h.
// Cost:     4 bytes read a logit; then one block settles the tokens of the open bins: as a list in shared
//           memory, or in passes over the row where equal logits are more than the list holds.
// Twin:     Sampler::draw and Sampler::keep_likeliest of runtime/sampler.cpp.
//
// The bins of sampling_weigh leave a border uncertain by one bin, or by few where top-k and top-p meet. Their
// tokens are collected; a radix selection over ranks, 8 bits at a time, finds the borders among them.
#include "cuda/sampling/sampling_draw.cuh"

namespace autoglm::cuda {
namespace {

struct OpenBins {
  int first;
  int last;
  int count_bin;

  __device__ explicit OpenBins(const RowState& state)
      : first(state.first_open), last(state.last_open), count_bin(state.count_bin) {}
  // Only bins below kBins count: kBins says that there is no such border.
  __device__ bool contains(int bin) const {
    return bin < kBins && ((bin >= first && bin <= last) || bin == count_bin);
  }
};

// Tokens of open bins in chunks of at most kSliceTokens, from shared memory.
struct ListedTokens {
  const uint64_t* ranks;
  int count;

  __device__ int num_chunks() const { return 1; }
  template <typename Visit>
  __device__ void visit(int, Visit&& visit) const {
#pragma unroll 1
    for (int i = thread_x(); i < count; i += kSamplingThreads) visit(ranks[i]);
  }
};

// The same from the row: every token, in chunks that are its slices.
struct RowTokens {
  const RowView& view;

  __device__ int num_chunks() const { return view.num_slices; }
  template <typename Visit>
  __device__ void visit(int slice, Visit&& visit) const {
#pragma unroll 1
    for (int load = 0; load < kLoads; ++load) {
      const int token = token_of_load(slice, load);
      const Float4 logits = load_logits(view, token);
      for (int i = 0; i < kTokensPerLoad; ++i) {
        visit(likelihood_rank(logits.value[i], static_cast<uint32_t>(token + i)));
      }
    }
  }
};

// Counts and masses of the tokens of some bins whose rank begins with `prefix`, by the 8 bits that follow:
// those of value 255 - i in thread i, as the likeliest come first.
struct DigitSums {
  uint64_t count = 0;
  uint64_t mass = 0;
};
template <typename Tokens, typename Filter>
__device__ DigitSums sum_digits(const Tokens& tokens, const Weigher& weigher, const Filter& filter,
                                uint64_t prefix, int shift, LimitStorage& storage) {
  const uint64_t prefix_bits = shift + 8 >= 64 ? 0 : ~uint64_t{0} << (shift + 8);
  DigitSums sums;
  for (int chunk = 0; chunk < tokens.num_chunks(); ++chunk) {
    clear(storage.classes);
    sync_threads();
    tokens.visit(chunk, [&](uint64_t rank) {
      const float logit = logit_of_rank(rank);
      if ((rank & prefix_bits) != prefix || !filter(weigher.bin(logit))) return;
      add(storage.classes, static_cast<int>(rank >> shift & (kDigits - 1)), weigher.weight(logit));
    });
    sync_threads();
    if (thread_x() < kDigits) {
      sums.count += storage.classes.counts[kDigits - 1 - thread_x()];
      sums.mass += mass_of(storage.classes, kDigits - 1 - thread_x());
    }
    sync_threads();
  }
  return sums;
}

// The rank with which the tokens of some bins, in falling order of rank, reach `amount` of tokens or of mass.
struct Border {
  uint64_t rank = 0;
  uint64_t mass = 0;  // of the tokens down to it
};
template <typename Tokens, typename Filter>
__device__ Border find_border(const Tokens& tokens, const Weigher& weigher, const Filter& filter,
                              bool is_count, uint64_t amount, LimitStorage& storage) {
  Border border;
  for (int shift = 64 - 8; shift >= 0; shift -= 8) {
    const DigitSums own = sum_digits(tokens, weigher, filter, border.rank, shift, storage);
    const uint64_t measure = is_count ? own.count : own.mass;
    const uint64_t before = sum_of_block(measure, storage.scratch).before;
    const uint64_t mass_before = sum_of_block(own.mass, storage.scratch).before;
    if (before < amount && amount - before <= measure) {
      const bool is_one = own.count == 1;
      storage.digit = kDigits - 1 - thread_x();
      storage.is_found = is_one ? 1 : 0;
      storage.rest = amount - before;
      storage.mass = is_one ? mass_before + own.mass : mass_before;
    }
    sync_threads();
    border.rank |= static_cast<uint64_t>(storage.digit) << shift;
    border.mass += storage.mass;
    amount = storage.rest;
    const bool is_found = storage.is_found != 0;
    sync_threads();
    if (!is_found) continue;
    // Its other bits, too: tokens of bins that are dropped may begin with the same ones.
    for (int chunk = 0; chunk < tokens.num_chunks(); ++chunk) {
      tokens.visit(chunk, [&](uint64_t rank) {
        if (rank >> shift == border.rank >> shift && filter(weigher.bin(logit_of_rank(rank))))
          storage.rest = rank;
      });
    }
    sync_threads();
    border.rank = storage.rest;
    sync_threads();
    break;
  }
  return border;
}

// Finds the borders, and adds what is kept of open bins to the masses of the slices: that of slice i in
// thread i.
struct KeptTokens {
  uint64_t border;  // the least rank that is kept
  uint64_t mass;
};
template <typename Tokens>
__device__ KeptTokens settle(const RowView& view, const RowState& state, const Weigher& weigher,
                             const Tokens& tokens, LimitStorage& storage) {
  const OpenBins open(state);
  Border border;
  uint64_t mass = state.mass;
  if (state.count_bin < kBins) {
    const auto is_here = [&](int bin) { return bin == open.count_bin; };
    const uint64_t amount = static_cast<uint64_t>(view.row.top_k) - state.count_before;
    border = find_border(tokens, weigher, is_here, true, amount, storage);
    mass = state.mass_before + border.mass;
  }
  if (view.row.top_p < 1) {
    const auto is_here = [&](int bin) { return bin >= open.first && bin <= open.last; };
    const uint64_t amount = mass_to_keep(view.row.top_p, mass) - state.mass_before_open;
    border = find_border(tokens, weigher, is_here, false, amount, storage);
  }
  uint64_t own = thread_x() < view.num_slices ? view.slice_mass(thread_x()) : 0;
  for (int chunk = 0; chunk < tokens.num_chunks(); ++chunk) {
    clear(storage.classes);
    sync_threads();
    tokens.visit(chunk, [&](uint64_t rank) {
      const float logit = logit_of_rank(rank);
      if (rank < border.rank || !open.contains(weigher.bin(logit))) return;
      const uint64_t weight = weigher.weight(logit);
      if (weight >= weigher.least)
        add(storage.classes, static_cast<int>(token_of_rank(rank) / kSliceTokens), weight);
    });
    sync_threads();
    if (thread_x() < view.num_slices) own += mass_of(storage.classes, thread_x());
    sync_threads();
  }
  return {border.rank, own};
}

// Lists the tokens of open bins; returns the mass of those that are kept for sure.
__device__ uint64_t collect_slice(const RowView& view, int slice, const Weigher& weigher,
                                  const OpenBins& open) {
  uint64_t mass = 0;
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
    const int token = token_of_load(slice, load);
    const Float4 logits = load_logits(view, token);
#pragma unroll
    for (int i = 0; i < kTokensPerLoad; ++i) {
      const int bin = weigher.bin(logits.value[i]);
      if (open.contains(bin)) {
        const uint32_t place = take_global(view.list_count(), 1);
        if (place < kListTokens)
          view.list()[place] = likelihood_rank(logits.value[i], static_cast<uint32_t>(token + i));
      } else if (bin < open.first) {
        const uint64_t weight = weigher.weight(logits.value[i]);
        if (weight >= weigher.least) mass += weight;
      }
    }
  }
  return mass;
}

__device__ void limit_slice(const SamplingArgs& args) {
  auto& storage = shared_storage<LimitStorage>();
  const RowView view(args, block_y());
  const int slice = block_x();
  const RowState state = view.state();
  if (state.is_settled != 0 || !view.is_limited()) return;
  const Weigher weigher(view, state);
  const uint64_t own = collect_slice(view, slice, weigher, OpenBins(state));
  const uint64_t mass = sum_of_block(own, storage.scratch).total;
  if (thread_x() == 0) view.slice_mass(slice) = mass;
  if (!is_last_slice(view, storage.scratch)) return;
  const int count = static_cast<int>(*view.list_count());
  sync_threads();
  if (thread_x() == 0) *view.list_count() = 0;
  KeptTokens kept;
  if (count > kListTokens) {
    kept = settle(view, state, weigher, RowTokens{view}, storage);
  } else {
    for (int i = thread_x(); i < count; i += kSamplingThreads) storage.list[i] = view.list()[i];
    sync_threads();
    kept = settle(view, state, weigher, ListedTokens{storage.list, count}, storage);
  }
  draw_token(view, state, weigher, kept.border, kept.mass, storage.scratch);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kSamplingThreads, 2)
    sampling_limit(const __grid_constant__ autoglm::cuda::SamplingArgs args) {
  autoglm::cuda::limit_slice(args);
}
