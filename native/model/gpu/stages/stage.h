// The layers of a model that one GPU computes, with all that they take there: weights, KV pages, working
// memory, a stream. Steps of single tokens are recorded as graphs and replayed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "cuda/driver/context.h"
#include "cuda/driver/graph.h"
#include "cuda/driver/stream.h"
#include "model/decoder_weights.h"
#include "model/gpu/device_step.h"
#include "model/gpu/gpu_decoder.h"
#include "model/load_control.h"

namespace autoglm::gpu {

// Its owner waits before it goes: what is freed must not be in use.
class Stage {
 public:
  // The layers of `spec` from limits.first_layer on. Uploads their weights; `weights` may be freed
  // afterwards. Throws unsupported_model, out_of_memory, device_lost, and what control.check throws.
  Stage(std::shared_ptr<cuda::Context> context, DecoderSpec spec, const DecoderWeights& weights,
        cuda::KvType kv_type, const GpuLimits& limits, ThreadPool& pool, LoadControl& control);
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  // Lays out a step, queues its copy to the device and makes room for it. A step of single tokens without
  // adapters is replayed.
  void plan(std::span<const SequenceChunk> chunks, bool is_replayed);
  // Queues the layers of the step that was planned.
  void run();
  // Sleeps until all that was queued is done.
  void wait();

  GpuDecoder& decoder() { return decoder_; }
  const GpuDecoder& decoder() const { return decoder_; }
  StepPlanner& planner() { return planner_; }
  const StepPlanner& planner() const { return planner_; }
  cuda::Stream& stream() { return stream_; }
  int64_t scratch_bytes() const { return decoder_.scratch_bytes() + planner_.num_device_bytes(); }

 private:
  void run_graph();

  DecoderSpec spec_;
  cuda::Stream stream_;
  cuda::Event is_done_;
  StepPlanner planner_;
  GpuDecoder decoder_;
  std::map<std::vector<int32_t>, cuda::GraphExec> graphs_;  // by the numbers that decide the launches
  bool is_replayed_ = false;                                // of the step in progress
};

}  // namespace autoglm::gpu
