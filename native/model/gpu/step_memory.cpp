#include "model/gpu/step_memory.h"

#include <algorithm>
#include <utility>

namespace autoglm::gpu {

StepMemory::StepMemory(std::shared_ptr<cuda::Context> context, size_t num_bytes)
    : context_(std::move(context)) {
  resize(num_bytes);
}

bool StepMemory::make_room(cuda::Stream& stream) {
  if (num_bytes_ <= device_.size()) return false;
  stream.synchronize();  // the step before may still read what is freed here
  resize(std::max(num_bytes_, device_.size() + device_.size() / 2));
  return true;
}

void StepMemory::resize(size_t num_bytes) {
  std::array<cuda::PinnedMemory, 2> hosts;
  for (cuda::PinnedMemory& host : hosts) host = cuda::PinnedMemory(context_, num_bytes);
  cuda::DeviceMemory device(context_, num_bytes);
  hosts_ = std::move(hosts);
  device_ = std::move(device);
}

}  // namespace autoglm::gpu
