// The decoder on a GPU: executes a DecoderSpec over the rows of a step by queueing kernels. What is computed
// is what model/decoder.h computes, with bfloat16 activations.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "model/decoder_spec.h"
#include "model/gpu/device_kv_pool.h"
#include "model/gpu/device_rope.h"
#include "model/gpu/device_step.h"
#include "model/gpu/device_weights.h"
#include "model/gpu/gpu_scratch.h"

namespace autoglm::gpu {

struct GpuLimits {
  int64_t first_layer = 0;  // those before it are computed elsewhere
  int64_t num_pages = 0;
  int64_t max_step_tokens = 0;
  int64_t max_logit_rows = 0;
};

class GpuDecoder {
 public:
  // `spec` has passed check_gpu_spec; it and the stream outlive the decoder.
  GpuDecoder(const DecoderSpec& spec, DeviceWeights weights, cuda::KvType kv_type, cuda::Stream& stream,
             const GpuLimits& limits, int64_t num_row_rope_tables);

  // All layers from the first one on, which reads `hidden` where the embedding is not here. Outputs are
  // read with the calls below until the next step; the step lives until then.
  void run_layers(const DeviceStep& step, const StepPlanner& planner);
  // The same for layers that a graph runs.
  void take_step(const DeviceStep& step, const StepPlanner& planner) {
    step_ = &step;
    planner_ = &planner;
  }
  // Makes room for what the step's attention splits and its adapters add; true when that has moved.
  bool make_room(const DeviceStep& step, const GpuAdapters& adapters);

  // Logits after rows `rows` of the step, on the device: num_rows rows, logits_stride() floats apart. No soft
  // cap yet.
  float* compute_logits(const int32_t* rows, int64_t num_rows);
  // All rows of the step with the final norm applied, [rows, hidden] on the device. The last call of a step:
  // it overwrites what logits are made of.
  float* final_hidden();

  // The hidden states [rows, hidden] that the first layer finds and the last one leaves.
  float* hidden() const { return scratch_.residual; }
  int32_t* logit_rows() const { return scratch_.logit_rows; }
  int64_t logits_stride() const { return scratch_.logits_stride; }
  int64_t weight_bytes() const { return static_cast<int64_t>(weights_.arena.size()); }
  int64_t kv_bytes() const { return kv_pool_.num_bytes(); }
  int64_t scratch_bytes() const {
    return scratch_.num_bytes() +
           static_cast<int64_t>(partials_.size() + tickets_.size() + low_.size() + gate_up_.size());
  }

 private:
  struct AddedTo {
    float* out;
    const float* residual;
    float scale;
  };

  void embed();
  void run_attention(size_t layer);
  void append_and_attend(size_t layer, const float* q, int64_t q_stride, const float* kv, int64_t kv_stride);
  void project_latent(size_t layer);
  void expand_latent(size_t layer);
  void run_mlp(size_t layer);
  void run_experts(size_t layer);
  void choose_experts(const MoeSpec& moe, const DeviceMoe& weights);
  void run_shared_expert(const MoeSpec& moe, const DeviceMoe& weights);
  void make_input(const LayerSpec& layer, const DeviceNorm& norm);
  void to_bf16(const float* in, cuda::Bf16* out, int64_t num_cols);
  // The additions of the step's adapters to `out`, which a product has written. `gated_cols`: LoraArgs.
  void add_adapters(size_t layer, Product product, const cuda::Bf16* in, float* out, float scale,
                    int64_t gated_cols = 0);
  bool has_additions(size_t layer, Product product) const;
  AddedTo begin_add(const LayerSpec& layer) const;
  void end_add(const LayerSpec& layer, const DeviceNorm& pre, const DeviceNorm& post);
  void add_product(size_t layer, Product product, const DeviceLinear& linear, const cuda::Bf16* in);
  void multiply(const DeviceLinear& linear, cuda::ProductArgs args);
  void multiply_stacked(const std::vector<DeviceLinear>& parts, const cuda::Bf16* in, float* out,
                        int64_t out_stride);
  template <typename Args>
  void launch(const cuda::LaunchShape& shape, const Args& args) {
    cuda::launch(stream_, shape, args);
  }

  const DecoderSpec& spec_;
  DeviceWeights weights_;
  cuda::KvType kv_type_;
  cuda::Stream& stream_;
  DeviceKvPool kv_pool_;
  GpuScratch scratch_;
  DeviceRope rope_;
  cuda::DeviceMemory partials_;  // of split attention
  cuda::DeviceMemory tickets_;   // zero between launches
  cuda::DeviceMemory low_;       // of adapters, once a step has had one
  cuda::DeviceMemory gate_up_;   // the same: what they add to before the nonlinearity
  int64_t first_layer_;
  int64_t max_step_tokens_;
  int64_t max_partial_floats_ = 0;  // of one partial, in the widest layer
  int64_t max_kv_heads_ = 0;

  // The step in progress.
  const DeviceStep* step_ = nullptr;
  const StepPlanner* planner_ = nullptr;
};

}  // namespace autoglm::gpu
