// What one step tells the device: sections in one page-locked block, copied to its twin on the device at
// once. Equal sections at equal sizes lie at equal addresses in every step, so that a recorded graph finds
// them. Two blocks take turns: one is filled while the copy of the other may be under way. The device has
// one, since a copy stands behind the kernels of the step before in their stream.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"

namespace autoglm::gpu {

template <typename T>
struct StepSection {
  size_t offset = 0;  // bytes
  size_t count = 0;
};

class StepMemory {
 public:
  StepMemory(std::shared_ptr<cuda::Context> context, size_t num_bytes);

  // A step first adds its sections, then makes room for them, then fills them. Of earlier steps the last one
  // may be under way.
  void begin() {
    turn_ = 1 - turn_;
    num_bytes_ = 0;
  }
  template <typename T>
  StepSection<T> add(size_t count) {
    const size_t offset = num_bytes_;
    num_bytes_ = cuda::Arena::padded(offset + count * sizeof(T));
    return {offset, count};
  }
  // True when the block had to grow, which moves it: then all that was queued on `stream` is waited for.
  // Throws out_of_memory.
  bool make_room(cuda::Stream& stream);
  template <typename T>
  std::span<T> host(const StepSection<T>& section) const {
    return {reinterpret_cast<T*>(hosts_[turn_].data() + section.offset), section.count};
  }
  template <typename T>
  const T* device(const StepSection<T>& section) const {
    return reinterpret_cast<const T*>(device_.data() + section.offset);
  }
  void copy(cuda::Stream& stream) const {
    stream.copy_to_device(device_.data(), hosts_[turn_].data(), num_bytes_);
  }

  int64_t num_device_bytes() const { return static_cast<int64_t>(device_.size()); }

 private:
  void resize(size_t num_bytes);

  std::shared_ptr<cuda::Context> context_;
  std::array<cuda::PinnedMemory, 2> hosts_;
  size_t turn_ = 0;  // whose block the step in progress fills
  cuda::DeviceMemory device_;
  size_t num_bytes_ = 0;
};

}  // namespace autoglm::gpu
