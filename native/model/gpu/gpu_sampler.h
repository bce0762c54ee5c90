// Draws tokens where the logits are: what a step tells the kernels of cuda/sampling, and what they answer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "cuda/sampling/sampling.h"
#include "model/back_end.h"
#include "model/gpu/step_memory.h"

namespace autoglm::gpu {

class GpuSampler {
 public:
  // Of rows of `row_stride` floats.
  GpuSampler(const DecoderSpec& spec, std::shared_ptr<cuda::Context> context, int64_t row_stride,
             int64_t max_rows);

  // Queues the draws from the rows of `logits`, which is overwritten. Throws out_of_memory.
  void queue(float* logits, std::span<const DrawRequest> requests, cuda::Stream& stream);
  // What came of them, once the stream has been waited for.
  void read(std::span<DrawnToken> drawn) const;

  int64_t num_device_bytes() const {
    return memory_.num_device_bytes() + static_cast<int64_t>(workspace_.size() + sampled_.size());
  }

 private:
  void make_workspace(int64_t num_slots, cuda::Stream& stream);
  void write_rows(std::span<const DrawRequest> requests);

  std::shared_ptr<cuda::Context> context_;
  int64_t max_rows_;
  int64_t num_slots_ = 0;  // of the workspace
  StepMemory memory_;
  cuda::DeviceMemory workspace_;
  cuda::DeviceMemory sampled_;
  cuda::PinnedMemory answers_;
  cuda::SamplingArgs args_;  // of the step in progress
};

}  // namespace autoglm::gpu
