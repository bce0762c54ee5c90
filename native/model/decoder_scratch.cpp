// The decoder's memory for one step, sized for the widest layer and the largest step.
#include <algorithm>

#include "model/decoder.h"

namespace autoglm {

// `reserve_all` runs twice: once to add up the sizes, once to hand out the memory.
void Decoder::reserve_scratch(int64_t max_step_tokens) {
  struct Widths {
    int64_t qkv = 0, q = 0, gate_up = 0;
    int64_t float_input = 0, int8_input = 0;
    int64_t float_attended = 0, int8_attended = 0;
    int64_t float_activated = 0, int8_activated = 0;
  } widths;
  bool has_sublayer_norm = false;
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const auto& [attention, mlp, moe, placement, norm, residual_scale] = spec_.layers[i];
    const LayerWeights& weights = weights_->layers[i];
    const bool is_dense = !moe;
    const bool experts_take_int8 = moe && experts_.needs_int8(layer_experts_[i]);
    const bool is_latent = attention.latent.has_value();
    const StackedLinear& first_products = is_latent ? weights.latent.down : weights.qkv;
    const auto widen = [](int64_t& width, int64_t cols, bool is_needed) {
      if (is_needed) width = std::max(width, cols);
    };
    widen(widths.qkv, attention.q_cols() + attention.k_cols() + attention.v_cols(), !is_latent);
    widen(widths.q, attention.q_cols(), true);
    widen(widths.gate_up, mlp.gate_up_cols(), is_dense);
    widen(widths.float_input, spec_.hidden_size,
          first_products.needs_float() || weights.gate_up.needs_float() || moe);
    widen(widths.int8_input, spec_.hidden_size,
          first_products.needs_int8() || weights.gate_up.needs_int8() || experts_take_int8);
    widen(widths.float_attended, attention.attended_cols(), !is_latent && !weights.o.matrix.takes_int8());
    widen(widths.int8_attended, attention.attended_cols(), !is_latent && weights.o.matrix.takes_int8());
    widen(widths.float_activated, mlp.intermediate_size, is_dense && !weights.down.matrix.takes_int8());
    widen(widths.int8_activated, mlp.intermediate_size, is_dense && weights.down.matrix.takes_int8());
    has_sublayer_norm |= placement != NormPlacement::pre;
  }
  int64_t attention_floats = 0;
  for (const AttentionGeometry& geometry : geometries_) {
    attention_floats =
        std::max(attention_floats,
                 2 * attention_scratch_floats(max_step_tokens, geometry.num_q_heads, geometry.value_dim));
  }
  const bool head_takes_int8 = head_.matrix.takes_int8();
  const auto reserve_all = [&](ScratchAllocator allocator) {
    for (FloatBuffer& buffer : residuals_) buffer.reserve(allocator, max_step_tokens, spec_.hidden_size);
    input_.reserve(allocator, max_step_tokens, widths.float_input, widths.int8_input);
    qkv_.reserve(allocator, max_step_tokens, widths.qkv);
    rotated_q_.reserve(allocator, max_step_tokens, widths.q);
    attended_.reserve(allocator, max_step_tokens, widths.float_attended, widths.int8_attended);
    gate_up_.reserve(allocator, max_step_tokens, widths.gate_up);
    activated_.reserve(allocator, max_step_tokens, widths.float_activated, widths.int8_activated);
    experts_.reserve(allocator, max_step_tokens);
    latents_.reserve(allocator, max_step_tokens);
    if (has_sublayer_norm) sublayer_.reserve(allocator, max_step_tokens, spec_.hidden_size);
    head_input_.reserve(allocator, kMaxLogitRows, spec_.head ? spec_.hidden_size : 0,
                        head_takes_int8 ? spec_.hidden_size : 0);
    pooled_layers_.reserve(allocator);
    for (size_t i = 0; i < angles_.size(); ++i) {
      angles_[i].reserve(allocator, max_step_tokens, spec_.rope_tables[i].rotary_dim);
    }
    FloatBuffer attention_scratch;
    attention_scratch.reserve(allocator, 1, attention_floats);
    attention_scratch_ = attention_scratch.values();
    return allocator.num_bytes();
  };
  angles_.resize(spec_.rope_tables.size());
  scratch_ = MemoryRegion(reserve_all(ScratchAllocator(nullptr)));
  reserve_all(ScratchAllocator(scratch_.data()));
}

}  // namespace autoglm
