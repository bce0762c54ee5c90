// Draws tokens where the logits are: what a step tells the kernels of cuda/sampling, and what they answer.
#pragma once

#include <array>
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
  // Which answers the last draws that were queued will be; those of the ones before are kept, too.
  size_t turn() const { return turn_; }
  // What came of the draws, once the stream has come so far.
  void read(size_t turn, std::span<DrawnToken> drawn) const;
  // On the device, until the next draws: what the last ones that were queued draw, in the requests' order.
  const cuda::SampledRow* sampled() const { return args_.out; }

  int64_t num_device_bytes() const {
    return memory_.num_device_bytes() + static_cast<int64_t>(workspace_.size() + sampled_.size());
  }

 private:
  void make_workspace(int64_t num_slots, cuda::Stream& stream);
  void write_rows(std::span<const DrawRequest> requests, cuda::Stream& stream);

  std::shared_ptr<cuda::Context> context_;
  int64_t max_rows_;
  int64_t num_slots_ = 0;  // of the workspace
  StepMemory memory_;
  cuda::DeviceMemory workspace_;
  cuda::DeviceMemory sampled_;
  std::array<cuda::PinnedMemory, 2> answers_;
  size_t turn_ = 0;
  cuda::SamplingArgs args_;  // of the step in progress
};

}  // namespace autoglm::gpu
