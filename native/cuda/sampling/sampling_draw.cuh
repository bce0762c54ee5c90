// The draw from a row whose kept tokens are known.
#pragma once

#include "cuda/sampling/sampling_block.cuh"

namespace autoglm::cuda {

// The first kept token, by id, up to which kept tokens weigh more than the draw says. Kept are those whose
// rank is at least `border` and whose weight min-p allows; those of slice i weigh `mass` together in thread
// i.
__device__ inline void draw_token(const RowView& view, const RowState& state, const Weigher& weigher,
                                  uint64_t border, uint64_t mass, BlockScratch& scratch) {
  const BlockSum slices = sum_of_block(mass, scratch);
  const auto position = static_cast<uint64_t>(view.row.num_tokens);
  const uint64_t drawn = drawn_mass(random_bits(view.row.seed, position), slices.total);
  if (drawn >= slices.before && drawn - slices.before < mass) {
    scratch.found = static_cast<uint64_t>(thread_x());
    scratch.amount = drawn - slices.before;
  }
  sync_threads();
  const int slice = static_cast<int>(scratch.found);
  const uint64_t rest = scratch.amount;

  const auto kept_weight = [&](float logit, int token) -> uint64_t {
    if (likelihood_rank(logit, static_cast<uint32_t>(token)) < border) return 0;
    const uint64_t weight = weigher.weight(logit);
    return weight >= weigher.least ? weight : 0;
  };
  // Neighbouring tokens in one thread, so that sums of threads are sums in the order of ids.
  const int first = slice * kSliceTokens + thread_x() * (kLoads * kTokensPerLoad);
  uint64_t own = 0;
#pragma unroll 1
  for (int load = 0; load < kLoads; ++load) {
    const int token = first + load * kTokensPerLoad;
    const Float4 logits = load_logits(view, token);
#pragma unroll
    for (int i = 0; i < kTokensPerLoad; ++i) own += kept_weight(logits.value[i], token + i);
  }
  const uint64_t before = sum_of_block(own, scratch).before;
  if (rest < before || rest - before >= own) return;
  uint64_t left = rest - before;
#pragma unroll 1
  for (int load = 0; load < kLoads; ++load) {
    const int token = first + load * kTokensPerLoad;
    const Float4 logits = load_logits(view, token);
    for (int i = 0; i < kTokensPerLoad; ++i) {
      const uint64_t weight = kept_weight(logits.value[i], token + i);
      if (left < weight) {
        write_token(view, state, token + i);
        return;
      }
      left -= weight;
    }
  }
}

}  // namespace autoglm::cuda
