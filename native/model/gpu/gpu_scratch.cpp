#include "model/gpu/gpu_scratch.h"

#include <algorithm>
#include <span>

#include "cuda/experts/expert_pairs.h"
#include "cuda/gemm/gemm.h"
#include "cuda/quantized/quantized.h"

namespace autoglm::gpu {
namespace {

constexpr int64_t kLogitsUnit = 4;  // the sampling kernels read as many at once

struct Widths {
  int64_t qkv = 0, q = 0, attended = 0, activated = 0, sublayer = 0;
  int64_t num_experts = 0, num_chosen = 0, shared = 0;
  int64_t latent_query = 0, normed_query = 0, query_heads = 0, latent_kv = 0, expanded = 0;
};

void widen(int64_t& width, int64_t cols) { width = std::max(width, cols); }

void widen_latent(Widths& widths, const AttentionSpec& attention) {
  const LatentSpec& latent = *attention.latent;
  const int64_t head_cols = attention.num_q_heads * (latent.nope_dim + latent.rope_dim);
  widen(widths.latent_query, latent.query_rank.value_or(head_cols));
  widen(widths.normed_query, latent.query_rank.value_or(0));
  widen(widths.query_heads, latent.query_rank ? head_cols : 0);
  widen(widths.latent_kv, latent.rope_dim + latent.rank);
  widen(widths.expanded, attention.num_q_heads * latent.output_dim);
}

Widths widths_of(const DecoderSpec& spec, int64_t first_layer) {
  Widths widths;
  for (const LayerSpec& layer : std::span(spec.layers).subspan(static_cast<size_t>(first_layer))) {
    const AttentionSpec& attention = layer.attention;
    const bool is_latent = attention.latent.has_value();
    // Latent queries are put together where others' products are.
    widen(widths.qkv, attention.q_cols() + (is_latent ? 0 : attention.k_cols() + attention.v_cols()));
    widen(widths.q, attention.q_cols());
    widen(widths.attended, attention.attended_cols());
    if (is_latent) widen_latent(widths, attention);
    if (layer.norm_placement != NormPlacement::pre) widths.sublayer = spec.hidden_size;
    if (!layer.moe) {
      widen(widths.activated, layer.mlp.intermediate_size);
      continue;
    }
    widen(widths.num_experts, layer.moe->num_experts);
    widen(widths.num_chosen, layer.moe->num_experts_per_token);
    widen(widths.activated, layer.moe->intermediate_size * layer.moe->num_experts_per_token);
    widen(widths.shared, layer.moe->shared_intermediate_size);
  }
  return widths;
}

}  // namespace

// Hands out the memory of an arena, or, without one, only adds up the sizes.
class GpuScratch::Layout {
 public:
  explicit Layout(cuda::Arena* arena) : arena_(arena) {}
  template <typename T>
  void take(T*& pointer, int64_t num_rows, int64_t num_cols) {
    const auto num_bytes = static_cast<size_t>(num_rows * num_cols) * sizeof(T);
    num_bytes_ += cuda::Arena::padded(num_bytes);
    if (arena_ != nullptr && num_bytes > 0) pointer = reinterpret_cast<T*>(arena_->take(num_bytes));
  }
  size_t num_bytes() const { return num_bytes_; }

  static size_t reserve(GpuScratch& scratch, cuda::Arena* arena, const DecoderSpec& spec,
                        const Widths& widths, int64_t max_rows, int64_t max_logit_rows);

 private:
  cuda::Arena* arena_;
  size_t num_bytes_ = 0;
};

size_t GpuScratch::Layout::reserve(GpuScratch& scratch, cuda::Arena* arena, const DecoderSpec& spec,
                                   const Widths& widths, int64_t max_rows, int64_t max_logit_rows) {
  const int64_t num_pairs = max_rows * widths.num_chosen;
  Layout layout(arena);
  layout.take(scratch.residual, max_rows, spec.hidden_size);
  layout.take(scratch.sublayer, max_rows, widths.sublayer);
  layout.take(scratch.input, max_rows, spec.hidden_size);
  layout.take(scratch.qkv, max_rows, widths.qkv);
  layout.take(scratch.rotated_q, max_rows, widths.q);
  layout.take(scratch.attended, max_rows, widths.attended);
  layout.take(scratch.activated, max_rows, widths.activated);
  layout.take(scratch.logit_rows, max_rows, 1);
  if (spec.head) {
    scratch.logits_stride = cuda::ceil_div(spec.vocab_size, kLogitsUnit) * kLogitsUnit;
    layout.take(scratch.head_input, max_logit_rows, spec.hidden_size);
    layout.take(scratch.logits, max_logit_rows, scratch.logits_stride);
  }
  if (widths.num_experts > 0) {
    layout.take(scratch.router_logits, max_rows, widths.num_experts + 1);
    layout.take(scratch.experts, max_rows, widths.num_chosen);
    layout.take(scratch.expert_weights, max_rows, widths.num_chosen);
    layout.take(scratch.first_pairs, widths.num_experts + 1, 1);
    layout.take(scratch.pair_rows, num_pairs, 1);
    layout.take(scratch.pair_of, num_pairs, 1);
    layout.take(scratch.pair_counts, cuda::pair_count_words(max_rows, widths.num_experts), 1);
    layout.take(scratch.down, num_pairs, spec.hidden_size);
    layout.take(scratch.shared_activated, max_rows, widths.shared);
    layout.take(scratch.shared_down, max_rows, widths.shared > 0 ? spec.hidden_size : 0);
  }
  layout.take(scratch.latent_query, max_rows, widths.latent_query);
  layout.take(scratch.normed_query, max_rows, widths.normed_query);
  layout.take(scratch.query_heads, max_rows, widths.query_heads);
  layout.take(scratch.latent_kv, max_rows, widths.latent_kv);
  layout.take(scratch.expanded, max_rows, widths.expanded);
  return layout.num_bytes();
}

namespace {

// The most bytes that any product of `weights` needs to split its sums.
class WorkspaceSize {
 public:
  explicit WorkspaceSize(int64_t max_rows) : max_rows_(max_rows) {}

  void add(const DeviceLinear& linear) {
    if (!linear.is_present()) return;
    const cuda::ProductArgs args{
        .w = linear.matrix, .experts = {}, .num_rows = static_cast<int32_t>(max_rows_)};
    num_bytes_ =
        std::max(num_bytes_, cuda::is_quantized(linear.matrix.layout) ? cuda::quantized_workspace_bytes(args)
                                                                      : cuda::gemm_workspace_bytes(args));
  }
  void add(const std::vector<DeviceLinear>& linears) {
    for (const DeviceLinear& each : linears) add(each);
  }
  void add(const DeviceExperts& experts, int64_t num_chosen) {
    if (experts.first.weights == nullptr || !cuda::is_quantized(experts.first.layout)) return;
    cuda::ProductArgs args{.w = experts.first, .experts = experts.strides};
    args.experts.first_pairs = &kSomePairs;
    args.num_rows = static_cast<int32_t>(max_rows_ * num_chosen);
    num_bytes_ = std::max(num_bytes_, cuda::quantized_workspace_bytes(args));
  }
  size_t num_bytes() const { return num_bytes_; }

 private:
  static constexpr int32_t kSomePairs = 0;  // that there are some is all that a size depends on
  int64_t max_rows_;
  size_t num_bytes_ = 0;
};

size_t workspace_bytes(const DecoderSpec& spec, const DeviceWeights& weights, int64_t max_rows) {
  WorkspaceSize size(max_rows);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const DeviceLayer& layer = weights.layers[i];
    size.add(layer.qkv);
    size.add(layer.latent.query);
    size.add(layer.latent.kv);
    size.add(layer.latent.query_b);
    size.add(layer.o);
    size.add(layer.gate_up);
    size.add(layer.down);
    size.add(layer.moe.router);
    size.add(layer.moe.shared_gate_up);
    size.add(layer.moe.shared_down);
    if (!spec.layers[i].moe) continue;
    size.add(layer.moe.gate_up, spec.layers[i].moe->num_experts_per_token);
    size.add(layer.moe.down, spec.layers[i].moe->num_experts_per_token);
  }
  size.add(weights.head);
  return size.num_bytes();
}

}  // namespace

GpuScratch::GpuScratch(const DecoderSpec& spec, const DeviceWeights& weights, cuda::Stream& stream,
                       int64_t first_layer, int64_t max_rows, int64_t max_logit_rows) {
  const Widths widths = widths_of(spec, first_layer);
  const size_t workspace_size = workspace_bytes(spec, weights, std::max(max_rows, max_logit_rows));
  const size_t num_bytes = Layout::reserve(*this, nullptr, spec, widths, max_rows, max_logit_rows);
  arena_ = cuda::Arena(stream.shared_context(), num_bytes + cuda::Arena::padded(workspace_size));
  Layout::reserve(*this, &arena_, spec, widths, max_rows, max_logit_rows);
  if (workspace_size == 0) return;
  workspace = arena_.take(workspace_size);
  stream.fill(workspace, 0, workspace_size);  // its tickets
}

cuda::LaunchShape product_launch(const cuda::ProductArgs& args) {
  return cuda::is_quantized(args.w.layout) ? cuda::quantized_launch(args) : cuda::gemm_launch(args);
}

}  // namespace autoglm::gpu
