// The adapters of a step: which rows run through which, and the products they add. Each output keeps one
// accumulation chain per product, so a row has the same bits whatever adapters its neighbours use.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/region.h"
#include "model/activation_buffer.h"
#include "model/adapter.h"
#include "ops/execution.h"

namespace autoglm {

class AdapterRows {
 public:
  // Address space only: memory is committed by the first step that has adapters.
  AdapterRows(const DecoderSpec& spec, int64_t max_step_tokens);

  void begin_step() { runs_.clear(); }
  // The step's rows [first, first + count) run through `adapter`, which lives as long as the step.
  void add_run(const Adapter& adapter, int64_t first, int64_t count);
  // False while no row of the step has an adapter: then nothing here costs anything.
  bool is_active() const { return !runs_.empty(); }

  // Makes sure that the input of a product is there as floats, which additions read. The memory is shared by
  // all inputs: it is written by the operation that makes one, and read before the next is made.
  void require_floats(Activations& in, int64_t num_rows, int64_t num_cols) const;

  // out[r] += scale * addition's scale * B (A in[r]) for every row with an adapter that changes this product.
  void add(const Execution& execution, size_t layer, Product product, TensorView<const float> in,
           TensorView<float> out, float scale) const;

 private:
  struct Run {
    const Adapter* adapter;
    int64_t first;
    int64_t count;
  };

  std::vector<Run> runs_;
  MemoryRegion scratch_;
  FloatBuffer inputs_;
  FloatBuffer low_;  // A x
};

}  // namespace autoglm
