#include "model/adapter_rows.h"

#include <algorithm>

#include "ops/matmul.h"

namespace autoglm {

AdapterRows::AdapterRows(const DecoderSpec& spec, int64_t max_step_tokens) {
  int64_t widest = 0;
  for (const LayerSpec& layer : spec.layers) {
    for (size_t product = 0; product < kNumProducts; ++product) {
      widest = std::max(widest, product_shape(spec, layer, static_cast<Product>(product)).in);
    }
  }
  const auto reserve_all = [&](ScratchAllocator allocator) {
    inputs_.reserve(allocator, max_step_tokens, widest);
    low_.reserve(allocator, max_step_tokens, kMaxAdapterRank);
    return allocator.num_bytes();
  };
  scratch_ = MemoryRegion(reserve_all(ScratchAllocator(nullptr)));
  reserve_all(ScratchAllocator(scratch_.data()));
}

void AdapterRows::add_run(const Adapter& adapter, int64_t first, int64_t count) {
  if (!runs_.empty() && runs_.back().adapter == &adapter &&
      runs_.back().first + runs_.back().count == first) {
    runs_.back().count += count;
  } else {
    runs_.push_back({&adapter, first, count});
  }
}

void AdapterRows::require_floats(Activations& in, int64_t num_rows, int64_t num_cols) const {
  if (is_active() && !in.values.is_present()) in.values = inputs_.view(num_rows, num_cols);
}

// The second product reads and writes the same outputs: each element belongs to one chunk, and what a
// replayed chunk computes from an element that is written already is dropped (docs/kernels/threads.md).
void AdapterRows::add(const Execution& execution, size_t layer, Product product, TensorView<const float> in,
                      TensorView<float> out, float scale) const {
  for (const Run& run : runs_) {
    for (const LowRank& addition : run.adapter->additions(layer, product)) {
      const TensorView<float> low = low_.view(run.count, addition.a.n);
      const TensorView<float> sum = out.rows(run.first, run.count).columns(addition.first_col, addition.b.n);
      matmul(execution, {.weights = addition.a,
                         .in = in.rows(run.first, run.count),
                         .quantized = {},
                         .residual = {},
                         .out = low});
      matmul(execution, {.weights = addition.b,
                         .in = low,
                         .quantized = {},
                         .residual = sum,
                         .scale = scale * addition.scale,
                         .out = sum});
    }
  }
}

}  // namespace autoglm
