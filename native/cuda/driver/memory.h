// Memory of the device, and memory of the host that the device can read and write by itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

#include "cuda/driver/context.h"

namespace autoglm::cuda {

// Addresses are for kernels and copies; the host never follows them.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  // 256-byte aligned, not initialised; null for 0 bytes. Throws out_of_memory with what was free.
  DeviceMemory(std::shared_ptr<Context> context, size_t num_bytes);

  std::byte* data() const { return reinterpret_cast<std::byte*>(handle_.get()); }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(handle_.get());
  }
  size_t size() const { return handle_.get() == 0 ? 0 : size_; }

 private:
  Owned<CUdeviceptr, &Driver::cuMemFree_v2> handle_;
  size_t size_ = 0;
};

// Page-locked memory of the host: copies between it and the device run beside the host, so that a copy has to
// be waited for before its bytes are read, changed or freed.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  // Page aligned, not initialised; null for 0 bytes. Throws out_of_memory.
  PinnedMemory(std::shared_ptr<Context> context, size_t num_bytes);

  std::byte* data() const { return static_cast<std::byte*>(handle_.get()); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(handle_.get());
  }
  size_t size() const { return handle_.get() == nullptr ? 0 : size_; }

 private:
  Owned<void*, &Driver::cuMemFreeHost> handle_;
  size_t size_ = 0;
};

// One allocation that is handed out in pieces and freed as a whole.
class Arena {
 public:
  static constexpr size_t kAlignment = 256;  // what kernels ask of matrices
  // What a piece takes of the arena: the size to ask for is the sum over all pieces.
  static constexpr size_t padded(size_t num_bytes) {
    return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  Arena() = default;
  Arena(std::shared_ptr<Context> context, size_t num_bytes)
      : memory_(std::move(context), padded(num_bytes)) {}

  // Throws internal when the arena was made too small.
  std::byte* take(size_t num_bytes);
  template <typename T>
  T* take(size_t count) {
    return reinterpret_cast<T*>(take(count * sizeof(T)));
  }
  size_t num_left() const { return size() - std::min(size(), num_taken_); }  // bytes; 0 after a move
  size_t size() const { return memory_.size(); }

 private:
  DeviceMemory memory_;
  size_t num_taken_ = 0;
};

}  // namespace autoglm::cuda
