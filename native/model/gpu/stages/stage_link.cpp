#include "model/gpu/stages/stage_link.h"

namespace autoglm::gpu {

StageLink::StageLink(Stage& from, Stage& to, size_t max_bytes)
    : from_(from), to_(to), has_left_(from.stream().shared_context()) {
  cuda::Context& context = from.stream().context();
  if (!context.open_way_to(to.stream().context()))
    passage_ = cuda::PinnedMemory(from.stream().shared_context(), max_bytes);
}

// The device that has the bytes sends them: writes over a bus need no answer, reads do.
void StageLink::carry(size_t num_bytes) {
  cuda::Stream& sender = from_.stream();
  cuda::Stream& receiver = to_.stream();
  const float* const source = from_.decoder().hidden();
  float* const target = to_.decoder().hidden();
  const bool is_direct = passage_.size() == 0;
  if (is_direct) {
    sender.copy_to_peer(receiver.context(), target, source, num_bytes);
  } else {
    sender.copy_to_host(passage_.data(), source, num_bytes);
  }
  sender.record(has_left_);
  receiver.wait_for(has_left_);
  if (!is_direct) receiver.copy_to_device(target, passage_.data(), num_bytes);
}

}  // namespace autoglm::gpu
