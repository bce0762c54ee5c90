#include "cuda/driver/context.h"

namespace autoglm::cuda {

Context::Context(const Driver& driver, DeviceInfo device, std::span<const EmbeddedModule> modules)
    : driver_(driver), device_(std::move(device)), kernels_(*this, modules) {
  const CUresult result = driver_.cuDevicePrimaryCtxRetain.call(&handle_, device_.index);
  if (result != CUDA_SUCCESS) throw_error(driver_.cuDevicePrimaryCtxRetain.name, result);
}

Context::~Context() {
  kernels_.unload();
  if (handle_ != nullptr) driver_.cuDevicePrimaryCtxRelease_v2.call(device_.index);
}

Context::Memory Context::memory() {
  Memory memory{};
  call(driver_.cuMemGetInfo_v2, &memory.free_bytes, &memory.total_bytes);
  return memory;
}

bool Context::open_way_to(Context& other) {
  int is_possible = 0;
  call(driver_.cuDeviceCanAccessPeer, &is_possible, device_.index, other.device_.index);
  if (is_possible == 0) return false;
  const auto& enable = driver_.cuCtxEnablePeerAccess;
  switch (const CUresult result = try_call(enable, other.handle_, 0u)) {
    case CUDA_SUCCESS:
    case CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED:  // by another model
      return true;
    case CUDA_ERROR_PEER_ACCESS_UNSUPPORTED:
    case CUDA_ERROR_TOO_MANY_PEERS:
      return false;
    default:
      throw_error(enable.name, result);
  }
}

std::string Context::loss() const {
  const std::lock_guard lock(loss_mutex_);
  return loss_;
}

void Context::throw_if_lost() const {
  if (is_lost()) throw Error(ErrorCode::device_lost, loss());
}

void Context::note(const char* function, CUresult result) noexcept {
  if (!is_fatal(result)) return;
  const std::lock_guard lock(loss_mutex_);
  if (is_lost()) return;
  try {
    loss_ = std::string(function) + ": " + driver_.describe(result) + ", on " + place();
  } catch (const std::bad_alloc&) {
    loss_.clear();  // the code still says what has happened
  }
  is_lost_.store(true, std::memory_order_release);
}

void Context::throw_error(const char* function, CUresult result, const std::string& what) const {
  std::string message = std::string(function) + ": " + driver_.describe(result);
  if (!what.empty()) message += ": " + what;
  throw Error(error_code_of(result), message + ", on " + place());
}

std::string Context::place() const {
  return "GPU " + std::to_string(device_.index) + " (" + device_.name + ")";
}

Context::Current::Current(const Context& context) noexcept : driver_(context.driver_) {
  CUcontext current = nullptr;
  result_ = driver_.cuCtxGetCurrent.call(&current);
  if (result_ != CUDA_SUCCESS || current == context.handle_) return;
  result_ = driver_.cuCtxPushCurrent_v2.call(context.handle_);
  is_pushed_ = result_ == CUDA_SUCCESS;
}

Context::Current::~Current() {
  CUcontext popped = nullptr;
  if (is_pushed_) driver_.cuCtxPopCurrent_v2.call(&popped);
}

}  // namespace autoglm::cuda
