#include "model/gpu/step_memory.h"

#include <algorithm>
#include <utility>

namespace autoglm::gpu {

StepMemory::StepMemory(std::shared_ptr<cuda::Context> context, size_t num_bytes)
    : context_(std::move(context)), num_bytes_(num_bytes) {
  make_room();
}

bool StepMemory::make_room() {
  if (num_bytes_ <= device_.size()) return false;
  const size_t wanted = std::max(num_bytes_, device_.size() + device_.size() / 2);
  cuda::PinnedMemory host(context_, wanted);
  cuda::DeviceMemory device(context_, wanted);
  host_ = std::move(host);
  device_ = std::move(device);
  return true;
}

}  // namespace autoglm::gpu
