// A model on a GPU, or on several: BackEnd over a Pipeline, and over the processor's decoder for layers that
// have no room there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "cuda/driver/context.h"
#include "cuda/driver/memory.h"
#include "memory/region.h"
#include "model/back_end.h"
#include "model/gpu/device_choice.h"
#include "model/gpu/gpu_sampler.h"
#include "model/gpu/host_layers.h"
#include "model/gpu/launched_steps.h"
#include "model/gpu/stages/pipeline.h"
#include "model/load_control.h"
#include "model/pooled_layers.h"

namespace autoglm::gpu {

// The devices, once the model's settings have been found to suit them. Throws unsupported_model, and what
// cuda::open_device throws.
std::vector<StagePlace> open_gpus(const DecoderSpec& spec, Precision precision, KvDtype kv_dtype,
                                  const DeviceChoice& choice);

class GpuBackEnd final : public BackEnd {
 public:
  struct Settings {
    KvDtype kv_dtype = KvDtype::bf16;
    GpuLimits limits;  // the places say which layers
  };

  // Uploads the weights. Throws unsupported_model, out_of_memory, device_lost, and what control.check throws.
  GpuBackEnd(std::span<const StagePlace> places, DecoderSpec spec, std::unique_ptr<DecoderWeights> weights,
             const Settings& settings, ThreadPool& pool, LoadControl& control);
  // What is freed must not be in use.
  ~GpuBackEnd() override { pipeline_.settle(); }

  const DecoderSpec& spec() const override { return spec_; }
  const DecoderWeights& weights() const override {
    return host_layers_ ? host_layers_->weights() : *weights_;
  }
  ModelMemory memory() const override;
  int64_t num_pages() const override { return limits_.num_pages; }
  int64_t num_row_rope_tables() const override { return last_.planner().num_row_rope_tables(); }
  int64_t max_logit_rows() const override { return limits_.max_logit_rows; }

  void forward(const Execution& execution, std::span<const SequenceChunk> chunks) override;
  TensorView<float> compute_logits(const Execution& execution, std::span<const int32_t> rows) override;
  bool can_draw() const override { return sampler_.has_value(); }
  void draw(std::span<const DrawRequest> requests, std::span<DrawnToken> drawn) override;
  bool can_run_ahead() const override { return launched_.has_value(); }
  void launch(std::span<const SequenceChunk> chunks, std::span<const DrawRequest> requests) override;
  void collect(std::span<DrawnToken> drawn) override;
  void drop_launched() noexcept override;
  TensorView<const float> final_hidden(const Execution& execution) override;
  TensorView<const float> apply_pooled_layers(const Execution& execution,
                                              TensorView<const float> vectors) override;
  void finish(const Execution& execution) override;
  void forget_adapter(const Adapter& adapter) override { pipeline_.forget_adapter(adapter); }

 private:
  void run_host_layers(const Execution& execution, std::span<const SequenceChunk> chunks);
  template <typename RowOf>
  float* queue_logits(size_t num_rows, const RowOf& row_of);
  void queue_draws(std::span<const DrawRequest> requests);
  void note_growth();
  void wait();

  DecoderSpec spec_;
  GpuLimits limits_;
  std::unique_ptr<DecoderWeights> weights_;  // null where the processor's layers have them
  MemoryRegion pooled_arena_;                // weights of the pooled layers, which the host computes
  MemoryRegion pooled_scratch_;
  PooledLayers pooled_layers_;

  Pipeline pipeline_;
  Stage& last_;  // whose layers the head stands behind
  std::optional<HostLayers> host_layers_;
  cuda::PinnedMemory layer_input_;  // [rows of a step, hidden]: what the processor's layers computed
  bool is_under_way_ = false;       // work was queued that nobody waits for, beside what is launched

  std::optional<GpuSampler> sampler_;  // of models with a head
  cuda::PinnedMemory logits_;          // [max_logit_rows, logits_stride]
  cuda::PinnedMemory logit_rows_;      // [2, max_logit_rows]: two steps take turns
  int64_t logit_rows_turn_ = 0;
  std::optional<LaunchedSteps> launched_;  // of models with a head that are on one GPU alone
  cuda::PinnedMemory hidden_;              // [rows of a step, hidden], once somebody asked
  std::vector<float> gathered_hidden_;
  std::atomic<int64_t> device_scratch_bytes_{0};  // memory grows while other threads ask
};

}  // namespace autoglm::gpu
