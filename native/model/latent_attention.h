// What latent attention does on both sides of attention itself: from the hidden state to queries that meet
// the cached latents, and from attended latents to the heads' outputs. LatentSpec in
// lib/native/decoder-spec.ts says what is computed; keys and values of the heads are never made.
#pragma once

#include <cstdint>
#include <vector>

#include "model/activation_buffer.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "ops/execution.h"

namespace autoglm {

class LatentAttention {
 public:
  // Takes a layer in; the arguments outlive this object. Returns the layer's number. Throws unsupported_model
  // for quantized heads that do not lie in groups of 32.
  size_t add_layer(const AttentionSpec& attention, const LatentWeights& weights, const Linear& output);
  void reserve(ScratchAllocator& allocator, int64_t max_rows);

  // Queries and the new latents, before rotation and before the latents' norm.
  struct Projected {
    TensorView<float> q;   // [rows, num_q_heads * (rope + rank)]
    TensorView<float> kv;  // [rows, rope + rank]
  };
  Projected project(const Execution& execution, size_t layer, int64_t num_rows, const Activations& in);
  // Where attention writes: [rows, num_q_heads * rank].
  Activations attended(size_t layer, int64_t num_rows) const;
  // Outputs of the heads as the layer's last product reads them, from what attention wrote.
  Activations expand(const Execution& execution, size_t layer, int64_t num_rows);

 private:
  struct Layer {
    const AttentionSpec* attention;
    const LatentWeights* weights;
    bool k_takes_int8;
    bool v_takes_int8;
    bool output_takes_int8;

    const LatentSpec& spec() const { return *attention->latent; }
    int64_t num_heads() const { return attention->num_q_heads; }
    int64_t head_cols() const { return spec().nope_dim + spec().rope_dim; }  // of a query before absorption
    int64_t query_cols() const { return spec().query_rank.value_or(num_heads() * head_cols()); }
  };
  struct Widths {
    int64_t down = 0, float_query = 0, int8_query = 0;
    int64_t heads = 0, int8_heads = 0, q = 0;
    int64_t float_attended = 0, int8_attended = 0, expanded = 0, int8_expanded = 0;
  };

  TensorView<float> query_heads(const Execution& execution, const Layer& layer, TensorView<float> down);

  std::vector<Layer> layers_;
  Widths widths_;
  FloatBuffer down_;        // products of the hidden state: [queries or their latent | rope | latent]
  ActivationBuffer query_;  // the queries' normed latent
  FloatBuffer heads_;       // [heads][nope | rope]
  ActivationBuffer heads_int8_;
  FloatBuffer q_;  // [heads][rope | rank]
  ActivationBuffer attended_;
  ActivationBuffer expanded_;  // floats always: products write them
  std::vector<MatmulParams> products_;
};

}  // namespace autoglm
