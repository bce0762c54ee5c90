// The way of the hidden states from the layers of one GPU to those of the next: between the devices where
// they reach each other, else through page-locked memory of the host.
#pragma once

#include <cstddef>

#include "cuda/driver/memory.h"
#include "model/gpu/stages/stage.h"

namespace autoglm::gpu {

class StageLink {
 public:
  // For at most `max_bytes` of hidden states. Both stages outlive it. Throws out_of_memory, device_lost.
  StageLink(Stage& from, Stage& to, size_t max_bytes);

  // Queues the copy of the first `num_bytes` behind the layers of `from`; what is queued on `to` afterwards
  // waits for it. Nothing on `to` may still read the hidden states of an earlier step.
  void carry(size_t num_bytes);

  int64_t num_host_bytes() const { return static_cast<int64_t>(passage_.size()); }

 private:
  Stage& from_;
  Stage& to_;
  cuda::Event has_left_;        // `from`
  cuda::PinnedMemory passage_;  // null between devices that reach each other
};

}  // namespace autoglm::gpu
