// Allocations of the device and page-locked memory of the host.
#include <cstdlib>
#include <cstring>

#include "exports.h"
#include "queues.h"
#include "state.h"

namespace autoglm::cuda {

using fake::in_context;
using fake::state;

CUresult cuMemGetInfo_v2(size_t* num_free, size_t* num_total) {
  return in_context("cuMemGetInfo_v2", [&](CUctx_st& context) {
    *num_total = state().total_memory(context.device);
    *num_free = *num_total - std::min(*num_total, context.allocated_bytes);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t num_bytes) {
  return in_context("cuMemAlloc_v2", [&](CUctx_st& context) {
    if (num_bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    const auto total = state().total_memory(context.device);
    if (num_bytes > total || context.allocated_bytes > total - num_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    std::byte* memory = state().memory_of(context).allocate(num_bytes);
    if (memory == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    context.allocations[memory] = num_bytes;
    context.allocated_bytes += num_bytes;
    *address = reinterpret_cast<CUdeviceptr>(memory);
    return CUDA_SUCCESS;
  });
}

// Waits for the device first, as the real one does, unless told not to.
CUresult cuMemFree_v2(CUdeviceptr address) {
  return in_context("cuMemFree_v2", [&](CUctx_st& context) {
    auto* memory = reinterpret_cast<std::byte*>(address);
    if (!context.allocations.contains(memory)) return CUDA_ERROR_INVALID_VALUE;
    if (state().settings.frees_at_once == 0) fake::run_all(context);
    const size_t num_bytes = context.allocations.at(memory);
    context.allocated_bytes -= num_bytes;
    context.allocations.erase(memory);
    fake::DeviceMemoryRange& range = state().memory_of(context);
    range.free(memory);
    if (state().settings.frees_at_once != 0) {
      const fake::DeviceMemoryRange::Access access(range);
      std::memset(memory, fake::kPoison, num_bytes);
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostAlloc(void** address, size_t num_bytes, unsigned) {
  return in_context("cuMemHostAlloc", [&](CUctx_st& context) {
    constexpr size_t kPageBytes = 4096;
    if (num_bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (posix_memalign(address, kPageBytes, num_bytes) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*address, fake::kPoison, num_bytes);
    context.pinned[static_cast<std::byte*>(*address)] = num_bytes;
    return CUDA_SUCCESS;
  });
}

// Waits for nothing: a copy that is still to come meets memory that has gone, and is an illegal address.
CUresult cuMemFreeHost(void* address) {
  return in_context("cuMemFreeHost", [&](CUctx_st& context) {
    if (context.pinned.erase(static_cast<std::byte*>(address)) == 0) return CUDA_ERROR_INVALID_VALUE;
    std::free(address);
    return CUDA_SUCCESS;
  });
}

}  // namespace autoglm::cuda
