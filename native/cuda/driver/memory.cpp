#include "cuda/driver/memory.h"

#include <string>

namespace autoglm::cuda {

DeviceMemory::DeviceMemory(std::shared_ptr<Context> context, size_t num_bytes) : size_(num_bytes) {
  if (num_bytes == 0) return;
  CUdeviceptr address = 0;
  const CUresult result = context->try_call(context->driver().cuMemAlloc_v2, &address, num_bytes);
  if (result != CUDA_SUCCESS) {
    std::string what = std::to_string(num_bytes) + " bytes of device memory";
    Context::Memory memory{};
    if (context->try_call(context->driver().cuMemGetInfo_v2, &memory.free_bytes, &memory.total_bytes) ==
        CUDA_SUCCESS) {
      what += ", " + std::to_string(memory.free_bytes) + " of " + std::to_string(memory.total_bytes) +
              " are free";
    }
    context->throw_error(context->driver().cuMemAlloc_v2.name, result, what);
  }
  handle_ = {std::move(context), address};
}

PinnedMemory::PinnedMemory(std::shared_ptr<Context> context, size_t num_bytes) : size_(num_bytes) {
  if (num_bytes == 0) return;
  void* address = nullptr;
  const CUresult result =
      context->try_call(context->driver().cuMemHostAlloc, &address, num_bytes, CU_MEMHOSTALLOC_PORTABLE);
  if (result != CUDA_SUCCESS) {
    context->throw_error(context->driver().cuMemHostAlloc.name, result,
                         std::to_string(num_bytes) + " bytes of page-locked host memory");
  }
  handle_ = {std::move(context), address};
}

std::byte* Arena::take(size_t num_bytes) {
  if (padded(num_bytes) > num_left()) {
    throw Error(ErrorCode::internal, "an arena of " + std::to_string(size()) + " bytes has " +
                                         std::to_string(num_left()) + " left, " + std::to_string(num_bytes) +
                                         " asked for");
  }
  std::byte* piece = memory_.data() + num_taken_;
  num_taken_ += padded(num_bytes);
  return piece;
}

}  // namespace autoglm::cuda
