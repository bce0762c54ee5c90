// The shared memory of the products with quantized weights, for the kernels and their launcher.
#pragma once

#include "cuda/quantized/quantized.h"

namespace autoglm::cuda {

// Slabs under way: three of 4-bit codes, two of 8-bit ones, which are twice as long.
constexpr int num_stages(const QuantizedForm& form) { return form.bits == 4 ? 4 : 3; }
// Scales of a panel's slab. Longer groups than scale_k fill the first part of it.
constexpr int slab_scales(const QuantizedForm& form) {
  return static_cast<int>(kPanelRows) * (kSlabK / form.scale_k);
}

template <QuantizedForm kForm, QuantizedTile kTile>
struct alignas(128) QuantizedStage {
  uint8_t codes[kTile.row_warps][slab_bytes(kForm.bits)];
  uint16_t scales[kForm.has_mins ? 2 : 1][kTile.row_warps][slab_scales(kForm)];  // then mins
  Bf16 in[kTile.tokens()][kSlabK];  // 16-byte pieces of a row permuted by piece_of_row
};

// Rows of activations that a block multiplies: pairs of one expert, or rows of a dense product.
struct RowTile {
  int expert;
  int first;
  int count;
};

// What a block needs now and then, out of the registers.
struct QuantizedWork {
  RowTile rows;
  StripePlan plan;
  uint64_t policy;  // of the L2 cache, for weights
  uint32_t takes_stripe;
  uint32_t is_last;
};

template <QuantizedForm kForm, QuantizedTile kTile>
struct QuantizedStorage {
  QuantizedStage<kForm, kTile> stages[num_stages(kForm)];
  QuantizedWork work;
};

// Where a row of activations has its piece `piece`: the 8 rows of a matrix load meet 8 groups of banks.
constexpr int piece_of_row(int row, int piece) { return piece ^ row % 8; }

}  // namespace autoglm::cuda
