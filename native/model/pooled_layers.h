// The dense layers between a pooled hidden state and an answer: classification heads, dense modules of
// embedding models. A vector's result does not depend on the others it is computed with.
#pragma once

#include <cstdint>
#include <vector>

#include "model/activation_buffer.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "ops/execution.h"

namespace autoglm {

class PooledLayers {
 public:
  static constexpr int64_t kMaxRows = 32;  // vectors of one run

  PooledLayers(const DecoderSpec& spec, const DecoderWeights& weights);

  void reserve(ScratchAllocator& allocator);

  // vectors [num_rows <= kMaxRows, hidden_size] through all layers, without any the vectors themselves. The
  // result is valid until the next run.
  TensorView<const float> run(const Execution& execution, TensorView<const float> vectors);

 private:
  struct Layer {
    Linear linear;
    bool has_tanh = false;
  };

  std::vector<Layer> layers_;
  FloatBuffer outputs_[2];  // each layer reads one and writes the other
  ActivationBuffer quantized_;
};

}  // namespace autoglm
