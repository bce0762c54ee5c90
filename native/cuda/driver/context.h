// A device's primary context, shared by everything of the process that computes on that device.
// Invariant: once a call has returned a fatal error, no further one reaches the driver but the release at the
// end.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "cuda/driver/driver.h"
#include "cuda/driver/embedded_kernels.h"
#include "cuda/driver/kernel_library.h"

namespace autoglm::cuda {

// Any thread may use it, and whatever context the thread had before is current again after each call.
class Context {
 public:
  // device_registry.h opens and shares one; `modules` are those of embedded_modules().
  Context(const Driver& driver, DeviceInfo device, std::span<const EmbeddedModule> modules);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Driver& driver() const { return driver_; }
  const DeviceInfo& device() const { return device_; }
  KernelLibrary& kernels() { return kernels_; }
  CUcontext get() const { return handle_; }

  // Lets copies go from this device's memory to the other's by themselves. False where the two cannot reach
  // each other, or one has peers enough.
  bool open_way_to(Context& other);

  // Makes the context current for this thread, and what was current before again at its end. Calls do so by
  // themselves; a thread that makes many of them saves two calls of the driver each by holding one.
  class Current {
   public:
    explicit Current(const Context& context) noexcept;
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
    CUresult result() const { return result_; }

   private:
    const Driver& driver_;
    CUresult result_;
    bool is_pushed_ = false;
  };

  struct Memory {
    size_t free_bytes;
    size_t total_bytes;
  };
  Memory memory();

  // True after a fatal error: every call throws device_lost with that error's text, and nothing is freed one
  // by one. A context opened after the last holder of this one has gone starts anew.
  bool is_lost() const { return is_lost_.load(std::memory_order_acquire); }
  std::string loss() const;

  // Calls the driver with this context current. Throws the Error that the result stands for.
  template <typename... Params, typename... Args>
  void call(const DriverFunction<Params...>& function, Args... args) {
    const CUresult result = try_call(function, args...);
    if (result != CUDA_SUCCESS) throw_error(function.name, result);
  }
  // The same for callers that know what to do about some results; throws device_lost only.
  template <typename... Params, typename... Args>
  [[nodiscard]] CUresult try_call(const DriverFunction<Params...>& function, Args... args) {
    throw_if_lost();
    const Current current(*this);
    const CUresult result = current.result() == CUDA_SUCCESS ? function.call(args...) : current.result();
    note(function.name, result);
    throw_if_lost();
    return result;
  }
  // For destructors: does nothing when the context is lost, and whatever goes wrong is not theirs to tell.
  template <typename... Params, typename... Args>
  void release(const DriverFunction<Params...>& function, Args... args) noexcept {
    if (is_lost()) return;
    const Current current(*this);
    if (current.result() == CUDA_SUCCESS) note(function.name, function.call(args...));
  }
  // `what` says what was asked for.
  [[noreturn]] void throw_error(const char* function, CUresult result, const std::string& what = {}) const;

 private:
  void throw_if_lost() const;
  void note(const char* function, CUresult result) noexcept;  // remembers the first fatal error
  std::string place() const;

  const Driver& driver_;
  DeviceInfo device_;
  CUcontext handle_ = nullptr;
  std::atomic<bool> is_lost_ = false;
  mutable std::mutex loss_mutex_;
  std::string loss_;
  KernelLibrary kernels_;
};

// Owns one thing that `destroy` gives back. Move-only, and empty after a move.
template <typename Handle, auto kDestroy>
class Owned {
 public:
  Owned() = default;
  Owned(std::shared_ptr<Context> context, Handle handle) : context_(std::move(context)), handle_(handle) {}
  Owned(Owned&& other) noexcept
      : context_(std::move(other.context_)), handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this == &other) return *this;
    reset();
    context_ = std::move(other.context_);
    handle_ = std::exchange(other.handle_, Handle{});
    return *this;
  }
  ~Owned() { reset(); }

  Handle get() const { return handle_; }
  Context& context() const { return *context_; }
  const std::shared_ptr<Context>& shared_context() const { return context_; }

 private:
  void reset() noexcept {
    if (handle_ != Handle{}) context_->release(context_->driver().*kDestroy, handle_);
    handle_ = Handle{};
    context_.reset();
  }

  std::shared_ptr<Context> context_;
  Handle handle_{};
};

}  // namespace autoglm::cuda
