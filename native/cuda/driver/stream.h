// Work for the device in the order in which it is given, and marks in that order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "cuda/driver/context.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// A mark in a stream. One that was never recorded counts as reached.
class Event {
 public:
  Event() = default;
  explicit Event(std::shared_ptr<Context> context);

  bool is_reached() const;
  void synchronize() const;  // the thread sleeps until then
  CUevent get() const { return handle_.get(); }

 private:
  Owned<CUevent, &Driver::cuEventDestroy_v2> handle_;
};

// All calls but the last two return at once. Errors of a kernel show in any later call.
class Stream {
 public:
  Stream() = default;
  explicit Stream(std::shared_ptr<Context> context);

  // Between PinnedMemory and the device the copy runs beside the host. From other host memory the bytes are
  // taken before the call returns; to other host memory it waits.
  void copy_to_device(void* target, const void* source, size_t num_bytes);
  void copy_to_host(void* target, const void* source, size_t num_bytes);
  void copy_on_device(void* target, const void* source, size_t num_bytes);
  // To memory of a device that `context().open_way_to` has found within reach.
  void copy_to_peer(Context& peer, void* target, const void* source, size_t num_bytes);
  void fill(void* target, uint8_t value, size_t num_bytes);
  // `argument` is read before the call returns. Does nothing for a shape without a kernel.
  void launch(const LaunchShape& shape, const void* argument, size_t argument_bytes);

  void record(Event& event);
  void wait_for(const Event& event);  // of any device; the stream waits, not the host

  bool is_idle() const;
  void synchronize() const;

  CUstream get() const { return handle_.get(); }
  Context& context() const { return handle_.context(); }
  const std::shared_ptr<Context>& shared_context() const { return handle_.shared_context(); }

 private:
  Owned<CUstream, &Driver::cuStreamDestroy_v2> handle_;
};

inline constexpr size_t kMaxArgumentBytes = 4096;  // what every device takes

// Starts the kernel that `shape` names with its one argument.
template <typename Args>
void launch(Stream& stream, const LaunchShape& shape, const Args& args) {
  static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kMaxArgumentBytes);
  stream.launch(shape, &args, sizeof(Args));
}

}  // namespace autoglm::cuda
