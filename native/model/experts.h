// The mixture of experts of one layer, executed over the rows of a step. Rows are grouped by expert, so each
// chosen expert's weights are read once per step and the others not at all; experts are added in ascending
// order, so a row's bits do not depend on who shares its experts.
#pragma once

#include <cstdint>
#include <vector>

#include "model/activation_buffer.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "ops/execution.h"
#include "ops/route.h"

namespace autoglm {

// Where a sub-layer's result goes: out = residual + scale * result; residual optional.
struct SublayerOutput {
  TensorView<float> out;
  TensorView<const float> residual;
  float scale = 1;
};

class Experts {
 public:
  // Takes a layer in; both arguments outlive this object. Returns the layer's number for `run`.
  size_t add_layer(const MoeSpec& moe, const MoeWeights& weights, int64_t hidden_size);
  void reserve(ScratchAllocator& allocator, int64_t max_rows);

  // `run` reads the hidden state as floats, for the router, and as int8 when this says so.
  bool needs_int8(size_t layer) const { return layers_[layer].needs_int8; }
  void run(const Execution& execution, size_t layer, const Activations& in, const SublayerOutput& output);

 private:
  struct Layer {
    const MoeSpec* moe;
    const MoeWeights* weights;
    bool needs_int8;  // the shared expert included
    bool gate_up_takes_float;
    bool gate_up_takes_int8;
    bool down_takes_float;
    bool down_takes_int8;

    bool has_shared() const { return moe->shared_intermediate_size > 0; }
  };
  struct Widths {
    int64_t hidden = 0, router = 0, num_chosen = 0;
    int64_t float_gathered = 0, int8_gathered = 0;
    int64_t gate_up = 0, float_activated = 0, int8_activated = 0;
    int64_t shared_hidden = 0, shared_gate_up = 0, float_shared = 0, int8_shared = 0;
  };

  void choose(const Execution& execution, const Layer& layer, const Activations& in);
  Activations gather(const Execution& execution, const Layer& layer, const Activations& in);
  void run_gate_up(const Execution& execution, const Layer& layer, const Activations& in);
  Activations activate_pairs(const Execution& execution, const Layer& layer);
  Activations activate_shared(const Execution& execution, const Layer& layer);
  void run_down(const Execution& execution, const Layer& layer, const Activations& activated,
                const Activations& shared);

  std::vector<Layer> layers_;
  Widths widths_;
  FloatBuffer logits_;
  FloatBuffer weights_;  // of the chosen experts
  ActivationBuffer gathered_;
  FloatBuffer gate_up_;
  FloatBuffer shared_gate_up_;
  ActivationBuffer activated_;
  ActivationBuffer shared_activated_;
  FloatBuffer down_;
  FloatBuffer shared_down_;

  // The layer in progress.
  int64_t num_rows_ = 0;
  std::vector<int32_t> chosen_;
  ExpertPairs pairs_;
  std::vector<MatmulParams> products_;
};

}  // namespace autoglm
