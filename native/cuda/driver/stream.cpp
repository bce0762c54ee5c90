#include "cuda/driver/stream.h"

#include <string>

namespace autoglm::cuda {
namespace {

constexpr size_t kMaxStaticShared = 48 << 10;  // as device/ptx.cuh; more is asked for at the launch

CUdeviceptr device_address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

bool is_done(Context& context, const char* function, CUresult result) {
  if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY) return result == CUDA_SUCCESS;
  context.throw_error(function, result);
}

}  // namespace

Event::Event(std::shared_ptr<Context> context) {
  CUevent event = nullptr;
  context->call(context->driver().cuEventCreate, &event, CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING);
  handle_ = {std::move(context), event};
}

bool Event::is_reached() const {
  Context& context = handle_.context();
  const auto& query = context.driver().cuEventQuery;
  return is_done(context, query.name, context.try_call(query, handle_.get()));
}

void Event::synchronize() const {
  handle_.context().call(handle_.context().driver().cuEventSynchronize, handle_.get());
}

Stream::Stream(std::shared_ptr<Context> context) {
  CUstream stream = nullptr;
  context->call(context->driver().cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
  handle_ = {std::move(context), stream};
}

void Stream::copy_to_device(void* target, const void* source, size_t num_bytes) {
  if (num_bytes == 0) return;
  context().call(context().driver().cuMemcpyHtoDAsync_v2, device_address(target), source, num_bytes, get());
}

void Stream::copy_to_host(void* target, const void* source, size_t num_bytes) {
  if (num_bytes == 0) return;
  context().call(context().driver().cuMemcpyDtoHAsync_v2, target, device_address(source), num_bytes, get());
}

void Stream::copy_on_device(void* target, const void* source, size_t num_bytes) {
  if (num_bytes == 0) return;
  context().call(context().driver().cuMemcpyDtoDAsync_v2, device_address(target), device_address(source),
                 num_bytes, get());
}

void Stream::copy_to_peer(Context& peer, void* target, const void* source, size_t num_bytes) {
  if (num_bytes == 0) return;
  context().call(context().driver().cuMemcpyPeerAsync, device_address(target), peer.get(),
                 device_address(source), context().get(), num_bytes, get());
}

void Stream::fill(void* target, uint8_t value, size_t num_bytes) {
  if (num_bytes == 0) return;
  context().call(context().driver().cuMemsetD8Async, device_address(target), value, num_bytes, get());
}

void Stream::launch(const LaunchShape& shape, const void* argument, size_t argument_bytes) {
  if (shape.kernel == nullptr) return;
  const size_t dynamic_bytes = shape.shared_bytes > kMaxStaticShared ? shape.shared_bytes : 0;
  const Kernel kernel = context().kernels().find(shape.kernel, dynamic_bytes);
  if (kernel.argument_bytes != argument_bytes) {
    throw Error(ErrorCode::internal, std::string(shape.kernel) + " takes " +
                                         std::to_string(kernel.argument_bytes) + " bytes of arguments, got " +
                                         std::to_string(argument_bytes) +
                                         ": the embedded kernels are of another build");
  }
  void* arguments[] = {const_cast<void*>(argument)};
  const auto& function = context().driver().cuLaunchKernel;
  const CUresult result = context().try_call(function, kernel.function, shape.grid_x, shape.grid_y, 1u,
                                             shape.num_threads, 1u, 1u, static_cast<unsigned>(dynamic_bytes),
                                             get(), arguments, static_cast<void**>(nullptr));
  if (result == CUDA_SUCCESS) return;
  context().throw_error(function.name, result,
                        std::string(shape.kernel) + " with a grid of " + std::to_string(shape.grid_x) +
                            " x " + std::to_string(shape.grid_y) + ", " + std::to_string(shape.num_threads) +
                            " threads and " + std::to_string(dynamic_bytes) +
                            " bytes of dynamic shared memory");
}

void Stream::record(Event& event) { context().call(context().driver().cuEventRecord, event.get(), get()); }

void Stream::wait_for(const Event& event) {
  context().call(context().driver().cuStreamWaitEvent, get(), event.get(), 0u);
}

bool Stream::is_idle() const {
  const auto& query = context().driver().cuStreamQuery;
  return is_done(context(), query.name, context().try_call(query, get()));
}

void Stream::synchronize() const { context().call(context().driver().cuStreamSynchronize, get()); }

}  // namespace autoglm::cuda
