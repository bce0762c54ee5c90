// How the sums of a product with quantized weights are cut along k: from n and k alone, so that the bits of a
// row are the same whatever else is in its batch.
//
// The slabs of the matrix, band of 256 rows after band, are cut in stripes of equal length. A band's sum is
// that of its segments in ascending order, a segment being what one stripe has of it. Few rows: one block
// takes one stripe, and the last of a band adds up. Many rows: a block walks all segments of its tile.
// Source: stripes as in Marlin, Frantar et al. 2024, section 3.4.
#pragma once

#include <cstdint>

#include "cuda/quantized/weight_order.h"

namespace autoglm::cuda {

inline constexpr int kBandPanels = 8;
inline constexpr int kBandRows = kBandPanels * static_cast<int>(kPanelRows);
inline constexpr int32_t kMaxStripes = 256;  // two for almost each of the 132 multiprocessors of an H200
inline constexpr int32_t kMinStripe = 8;     // slabs: the start of a pipeline costs 3

struct StripePlan {
  int32_t num_bands;
  int32_t num_slabs;  // of a band
  int32_t stripe;     // slabs of one stripe, the last one may have fewer
  int32_t num_stripes;

  constexpr int32_t total() const { return num_bands * num_slabs; }
  constexpr int32_t first_stripe(int32_t band) const { return band * num_slabs / stripe; }
  constexpr int32_t last_stripe(int32_t band) const { return ((band + 1) * num_slabs - 1) / stripe; }
  constexpr bool is_cut(int32_t band) const { return first_stripe(band) != last_stripe(band); }
  // Where the sums of a segment of a cut band go: a stripe has at most two of those, its first and its last.
  constexpr int32_t partial_of(int32_t band, int32_t stripe_index) const {
    return 2 * stripe_index + (stripe_index * stripe < band * num_slabs ? 1 : 0);
  }
  constexpr int32_t num_partials() const { return 2 * num_stripes; }
};

constexpr StripePlan stripes_of(int32_t n, int32_t k) {
  StripePlan plan = {};
  plan.num_bands = static_cast<int32_t>(ceil_div(n, kBandRows));
  plan.num_slabs = static_cast<int32_t>(num_slabs(k));
  plan.stripe = static_cast<int32_t>(ceil_div(plan.total(), kMaxStripes));
  if (plan.stripe < kMinStripe) plan.stripe = kMinStripe;
  plan.num_stripes = static_cast<int32_t>(ceil_div(plan.total(), plan.stripe));
  return plan;
}

}  // namespace autoglm::cuda
