// The one decoder: executes a DecoderSpec over a ragged batch, every running sequence's new positions in one
// pass. Row r of a step has the same bits whatever else is in the step. No stage writes what it reads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/op_params.h"
#include "memory/kv_pool.h"
#include "memory/region.h"
#include "model/activation_buffer.h"
#include "model/adapter.h"
#include "model/adapter_rows.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/experts.h"
#include "model/latent_attention.h"
#include "model/pooled_layers.h"
#include "model/step_rows.h"
#include "ops/attention.h"
#include "ops/execution.h"
#include "ops/kv_append.h"

namespace autoglm {

class Decoder {
 public:
  // Rows of logits that one call of compute_logits may ask for: one pass over the head serves them all.
  static constexpr int64_t kMaxLogitRows = 32;

  // `spec` has passed check_decoder_spec. Throws out_of_memory.
  Decoder(DecoderSpec spec, std::unique_ptr<DecoderWeights> weights, KvDtype kv_dtype,
          int64_t max_step_tokens);

  const DecoderSpec& spec() const { return spec_; }
  const DecoderWeights& weights() const { return *weights_; }
  int64_t scratch_bytes() const { return scratch_.size(); }
  // Bytes of one page in each layer, for KvPool.
  std::vector<int64_t> page_bytes() const;
  // How many values a row's `rope_table` may take.
  int64_t num_row_rope_tables() const;

  // Computes the chunks' positions and writes their keys and values to the pages. What the chunks want read
  // becomes the step's outputs, in order. With a deferred execution this and `compute_logits` only queue
  // stages, and what they were given must live until `finish`.
  void forward(const Execution& execution, std::span<const SequenceChunk> chunks, const KvPool& kv_pool);

  // Hidden states of all outputs of the last forward, the final norm applied. Valid until the next forward.
  TensorView<const float> final_hidden(const Execution& execution);

  // The pooled layers over at most PooledLayers::kMaxRows vectors of hidden_size; valid until the next call.
  TensorView<const float> apply_pooled_layers(const Execution& execution, TensorView<const float> vectors) {
    return pooled_layers_.run(execution, vectors);
  }

  // Logits after the outputs of the last forward that `rows` names, at most kMaxLogitRows: out is
  // [rows.size(), vocab_size].
  void compute_logits(const Execution& execution, std::span<const int32_t> rows, TensorView<float> out);

 private:
  // Layers with equal head counts cut a step's attention in the same way.
  struct AttentionGeometry {
    int64_t num_q_heads = 0;
    int64_t num_kv_heads = 0;
    int64_t value_dim = 0;
    AttentionPlan plan;
  };

  // What the first product of a sub-layer reads: once `norm` is done, if there is one.
  struct SublayerInput {
    Activations values;
    std::optional<NormParams> norm;
  };

  void reserve_scratch(int64_t max_step_tokens);
  size_t geometry_of(const AttentionSpec& attention);
  void begin_step(const Execution& execution, std::span<const SequenceChunk> chunks);
  void compute_angles(const Execution& execution, std::span<const SequenceChunk> chunks);
  void embed_tokens(const Execution& execution);
  void run_attention(const Execution& execution, size_t layer_idx, const KvPool& kv_pool);
  void run_latent_attention(const Execution& execution, size_t layer_idx, const KvPool& kv_pool);
  Activations append_and_attend(const Execution& execution, size_t layer_idx, KvAppendParams& append);
  Activations attended_view(size_t layer_idx) const;
  const AttentionPlan& keep_outputs(const Execution& execution, const AttentionGeometry& geometry);
  void run_mlp(const Execution& execution, size_t layer_idx);
  void run_gate_up(const Execution& execution, size_t layer_idx, const SublayerInput& input,
                   const Activations& activated);
  SublayerInput begin_input(const Execution& execution, const LayerSpec& layer,
                            const NormWeights& norm_weights, bool needs_float, bool needs_int8);
  Activations make_input(const Execution& execution, const LayerSpec& layer, const NormWeights& norm_weights,
                         bool needs_float, bool needs_int8);
  void multiply_stacked(const Execution& execution, const StackedLinear& stacked, const SublayerInput& in,
                        TensorView<float> out) const;
  void run_experts(const Execution& execution, size_t layer_idx);
  void add_to_residual(const Execution& execution, size_t layer_idx, Product which, const Activations& in);
  SublayerOutput begin_add(const LayerSpec& layer) const;
  void end_add(const Execution& execution, const LayerSpec& layer, const NormWeights& pre_weights,
               const NormWeights& post_weights);
  KvPages kv_pages(size_t layer_idx, const KvPool& kv_pool) const;

  TensorView<float> residual() const { return residuals_[current_].view(num_rows_, spec_.hidden_size); }
  TensorView<float> next_residual() const {
    return residuals_[1 - current_].view(num_rows_, spec_.hidden_size);
  }

  DecoderSpec spec_;
  std::unique_ptr<DecoderWeights> weights_;
  KvDtype kv_dtype_;
  Linear head_;  // its matrix is the embedding's when the head is tied
  KvAppendPlan append_plan_;
  std::vector<AttentionGeometry> geometries_;
  std::vector<size_t> layer_geometries_;  // index into geometries_ by layer
  Experts experts_;
  std::vector<size_t> layer_experts_;  // number in experts_ by layer, 0 for dense ones
  LatentAttention latents_;
  std::vector<size_t> layer_latents_;  // number in latents_ by layer, 0 for those without

  MemoryRegion scratch_;
  FloatBuffer residuals_[2];  // the stage that adds reads one and writes the other
  int current_ = 0;
  ActivationBuffer input_;  // of the products that read the hidden state
  FloatBuffer qkv_;
  FloatBuffer rotated_q_;
  ActivationBuffer attended_;
  FloatBuffer gate_up_;
  ActivationBuffer activated_;
  FloatBuffer sublayer_;  // output of a sub-layer that still has to be normed
  ActivationBuffer head_input_;
  AdapterRows adapter_rows_;
  PooledLayers pooled_layers_;
  std::vector<FloatBuffer> angles_;  // by rope table
  std::span<float> attention_scratch_;

  // The step in progress.
  StepRows step_;
  int64_t num_rows_ = 0;  // all rows; in the last layer, once keys are appended, the outputs
  std::span<const SequenceChunk> chunks_;
  AttentionPlan output_plan_;  // the last layer's, where not every row gives an output
};

}  // namespace autoglm
