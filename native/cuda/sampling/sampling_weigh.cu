// sampling weigh: the mass of every slice, and the token of rows without limits; of limited rows the mass of
// every bin, and the bins in which top-k and top-p end.
// Needs:    SamplingArgs, after sampling_scan.
// Rounding: none beyond the weights of base/sampling_math.h: sums are integers.
// Cost:     4 bytes read a logit; of limited rows three shared atomic additions, too.
// Twin:     Sampler::draw of runtime/sampler.cpp.
#include "cuda/sampling/sampling_draw.cuh"

namespace autoglm::cuda {
namespace {

template <typename Visit>
__device__ void for_each_logit(const RowView& view, int slice, Visit&& visit) {
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
    const Float4 logits = load_logits(view, token_of_load(slice, load));
#pragma unroll
    for (const float logit : logits.value) visit(logit);
  }
}

__device__ void draw_from_all(const RowView& view, const RowState& state, const Weigher& weigher,
                              BlockScratch& scratch) {
  const uint64_t mass = thread_x() < view.num_slices ? view.slice_mass(thread_x()) : 0;
  draw_token(view, state, weigher, 0, mass, scratch);
}

// The bin in which a sum over bins reaches some amount, with the counts and masses before it.
struct BinBorder {
  int bin = kBins;  // never reached
  uint64_t count_before = 0;
  uint64_t mass_before = 0;
  uint64_t mass_with = 0;
};
struct BinSums {
  BlockSum count;  // bin i in thread i
  BlockSum mass;
  uint64_t own_mass;
};
__device__ BinBorder find_bin(bool is_here, const BinSums& sums, WeighStorage& storage) {
  if (thread_x() == 0) storage.border_bin = kBins;
  sync_threads();
  if (is_here) {
    storage.border_bin = thread_x();
    storage.border_sums[0] = sums.count.before;
    storage.border_sums[1] = sums.mass.before;
    storage.border_sums[2] = sums.mass.before + sums.own_mass;
  }
  sync_threads();
  BinBorder border;
  if (storage.border_bin < kBins) {
    border = {storage.border_bin, storage.border_sums[0], storage.border_sums[1], storage.border_sums[2]};
  }
  sync_threads();
  return border;
}

__device__ bool is_reached(uint64_t amount, uint64_t before, uint64_t own) {
  return before < amount && amount - before <= own;
}

// In which bins the borders lie. top-p keeps a share of what top-k keeps, which weighs at least what lies
// before the bin of top-k's border and at most that and this bin.
__device__ void find_open_bins(const RowView& view, RowState state, WeighStorage& storage) {
  uint64_t count = 0;
  uint64_t mass = 0;
  for (int slice = 0; slice < view.num_slices; ++slice) {
    count += view.bins(slice).counts[thread_x()];
    mass += view.bins(slice).masses[thread_x()];
  }
  const BinSums sums{sum_of_block(count, storage.scratch), sum_of_block(mass, storage.scratch), mass};
  const auto bin_of_mass = [&](uint64_t amount) {
    return find_bin(is_reached(amount, sums.mass.before, mass), sums, storage);
  };
  const auto top_k = static_cast<uint64_t>(view.row.top_k);
  const bool is_count_bin = view.limits_count() && is_reached(top_k, sums.count.before, count);
  const BinBorder by_count = find_bin(is_count_bin, sums, storage);
  state.mass = sums.mass.total;
  state.count_bin = by_count.bin;
  state.count_before = static_cast<uint32_t>(by_count.count_before);
  state.mass_before = by_count.mass_before;
  state.first_open = by_count.bin;
  state.last_open = by_count.bin;
  if (view.row.top_p < 1) {
    const bool is_cut = by_count.bin < kBins;
    const uint64_t fewest = is_cut ? by_count.mass_before : sums.mass.total;
    const uint64_t most = is_cut ? by_count.mass_with : sums.mass.total;
    const BinBorder first = bin_of_mass(mass_to_keep(view.row.top_p, fewest));
    state.first_open = first.bin;
    state.mass_before_open = first.mass_before;
    state.last_open = bin_of_mass(mass_to_keep(view.row.top_p, most)).bin;
  }
  if (thread_x() == 0) view.state() = state;
}

__device__ void weigh_slice(const SamplingArgs& args) {
  auto& storage = shared_storage<WeighStorage>();
  const RowView view(args, block_y());
  const int slice = block_x();
  const RowState state = view.state();
  if (state.is_settled != 0) return;
  const Weigher weigher(view, state);
  if (!view.is_limited()) {
    uint64_t mass = 0;
    for_each_logit(view, slice, [&](float logit) { mass += weigher.weight(logit); });
    mass = sum_of_block(mass, storage.scratch).total;
    if (thread_x() == 0) view.slice_mass(slice) = mass;
    if (is_last_slice(view, storage.scratch)) draw_from_all(view, state, weigher, storage.scratch);
    return;
  }
  clear(storage.bins);
  sync_threads();
  for_each_logit(view, slice, [&](float logit) {
    const int bin = weigher.bin(logit);
    if (bin < kBins) add(storage.bins, bin, weigher.weight(logit));
  });
  sync_threads();
  SliceBins& bins = view.bins(slice);
  bins.counts[thread_x()] = storage.bins.counts[thread_x()];
  bins.masses[thread_x()] = mass_of(storage.bins, thread_x());
  if (is_last_slice(view, storage.scratch)) find_open_bins(view, state, storage);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kSamplingThreads, 2)
    sampling_weigh(const __grid_constant__ autoglm::cuda::SamplingArgs args) {
  autoglm::cuda::weigh_slice(args);
}
