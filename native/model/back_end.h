// Who computes a model's steps: the processor (cpu_back_end.h) or a GPU (gpu/gpu_back_end.h). The runtime
// knows this interface alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "base/sampling_params.h"
#include "base/tensor_view.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/step_rows.h"
#include "ops/execution.h"

namespace autoglm {

struct MemoryUse {
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t scratch_bytes = 0;
};

// What a model holds, by where it lies.
struct ModelMemory {
  MemoryUse host;
  MemoryUse device;  // of a GPU; 0 without one
};

// A token to be drawn after an output of the last forward, by runtime/sampler.h's rules. What it points to
// lives as long as the call.
struct DrawRequest {
  int32_t output_row = 0;
  std::span<const int32_t> tokens;  // the sequence so far
  bool has_pending_token = false;   // one more, drawn by the step launched before; then no penalties
  int64_t num_prompt_tokens = 0;
  const SamplingParams* sampling = nullptr;
  std::span<const std::pair<int32_t, float>> logit_bias;  // no token twice

  size_t num_tokens() const { return tokens.size() + (has_pending_token ? 1 : 0); }
};

struct DrawnToken {
  static constexpr size_t kMaxTops = 20;  // abi::Limits::maxLogprobs

  int32_t token = -1;
  bool is_numeric_error = false;  // a logit was NaN or infinite; nothing else is set
  float logprob = 0;
  int32_t num_top = 0;
  std::array<int32_t, kMaxTops> top_tokens{};  // likeliest first
  std::array<float, kMaxTops> top_logprobs{};
};

// Used by the engine thread alone, but for the constant parts. Every call of one step gets the same
// execution, and may only queue its work: what it was given must live until `finish`, or until somebody waits
// for the execution's pool.
class BackEnd {
 public:
  virtual ~BackEnd() = default;

  virtual const DecoderSpec& spec() const = 0;
  // As they were loaded. A GPU's are not here: the arena has given them back, and is empty where all layers
  // are there.
  virtual const DecoderWeights& weights() const = 0;
  virtual ModelMemory memory() const = 0;
  virtual int64_t num_pages() const = 0;
  // How many values a row's `rope_table` may take.
  virtual int64_t num_row_rope_tables() const = 0;
  // Rows that one call of `compute_logits` may ask for.
  virtual int64_t max_logit_rows() const = 0;

  // Computes the chunks' positions and writes their keys and values to the pages. What the chunks want read
  // becomes the step's outputs, in order.
  virtual void forward(const Execution& execution, std::span<const SequenceChunk> chunks) = 0;
  // Logits [rows.size(), vocab_size] after the outputs of the last forward that `rows` names. The caller may
  // overwrite them; they are valid until the next call.
  virtual TensorView<float> compute_logits(const Execution& execution, std::span<const int32_t> rows) = 0;
  // Whether `draw` is there: it spares the logits' way to the host.
  virtual bool can_draw() const { return false; }
  // Draws at most max_logit_rows tokens.
  virtual void draw(std::span<const DrawRequest>, std::span<DrawnToken>) {}
  // Whether `launch` is there: `forward` and `draw` in one, without waiting for either. A step may be
  // launched behind one that is not collected, no more; `forward` wants all of them collected or dropped.
  // What they are given may go when the call returns.
  virtual bool can_run_ahead() const { return false; }
  // Draws at most max_logit_rows tokens. A failure leaves the step launched before as it is.
  virtual void launch(std::span<const SequenceChunk>, std::span<const DrawRequest>) {}
  // Waits for the earliest step that is launched and gives what it has drawn.
  virtual void collect(std::span<DrawnToken>) {}
  // Nobody wants what is launched.
  virtual void drop_launched() noexcept {}
  // Hidden states of all outputs of the last forward, the final norm applied. Valid until the next forward.
  virtual TensorView<const float> final_hidden(const Execution& execution) = 0;
  // The pooled layers over at most PooledLayers::kMaxRows vectors of hidden_size; valid until the next call.
  virtual TensorView<const float> apply_pooled_layers(const Execution& execution,
                                                      TensorView<const float> vectors) = 0;
  // Waits for all work of the step.
  virtual void finish(const Execution& execution) = 0;
  // The adapter is about to be freed; between steps.
  virtual void forget_adapter(const Adapter&) {}
};

}  // namespace autoglm
