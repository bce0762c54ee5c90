// The driver, its devices, contexts and error texts.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "exports.h"
#include "state.h"

namespace autoglm::cuda {

using fake::in_context;
using fake::outside_context;
using fake::state;

namespace {

struct Code {
  CUresult code;
  const char* name;
  const char* text;
};
constexpr Code kCodes[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_ERROR_ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
};

const Code* find_code(CUresult code) {
  for (const Code& each : kCodes) {
    if (each.code == code) return &each;
  }
  return nullptr;
}

bool is_device(CUdevice device) { return device >= 0 && device < state().settings.num_devices; }

int64_t capability_of(CUdevice device) {
  const fake::Settings& settings = state().settings;
  const bool is_last = device == settings.num_devices - 1;
  return is_last && settings.last_compute_capability != 0 ? settings.last_compute_capability
                                                          : settings.compute_capability;
}

// Body of a function about one device.
CUresult about(const char* function, CUdevice device, const std::function<CUresult()>& body) {
  return outside_context(function, [&] {
    if (!state().is_initialized) return CUDA_ERROR_NOT_INITIALIZED;
    return is_device(device) ? body() : CUDA_ERROR_INVALID_DEVICE;
  });
}

}  // namespace

CUresult cuInit(unsigned) {
  return outside_context("cuInit", [] {
    const fake::Settings& settings = state().settings;
    const CUresult wanted = static_cast<CUresult>(settings.init_result);
    const CUresult result =
        wanted == CUDA_SUCCESS && settings.num_devices == 0 ? CUDA_ERROR_NO_DEVICE : wanted;
    state().is_initialized |= result == CUDA_SUCCESS;
    return result;
  });
}

CUresult cuDriverGetVersion(int* version) {
  return outside_context("cuDriverGetVersion", [&] {
    *version = static_cast<int>(state().settings.driver_version);
    return CUDA_SUCCESS;
  });
}

CUresult cuGetErrorName(CUresult code, const char** name) {
  const Code* found = find_code(code);
  *name = found == nullptr ? nullptr : found->name;
  return found == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

// The text of a fault, which a real driver cannot give, is worth having in a test's output.
CUresult cuGetErrorString(CUresult code, const char** text) {
  thread_local std::string told;
  const Code* found = find_code(code);
  *text = nullptr;
  if (found == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(state().mutex);
  told = found->text;
  const bool is_fault = code == CUDA_ERROR_ILLEGAL_ADDRESS || code == CUDA_ERROR_LAUNCH_FAILED;
  if (is_fault && !state().fault_text.empty()) told += " (" + state().fault_text + ")";
  *text = told.c_str();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  return outside_context("cuDeviceGetCount", [&] {
    *count = static_cast<int>(state().settings.num_devices);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGet(CUdevice* device, int index) {
  return about("cuDeviceGet", index, [&] {
    *device = index;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetName(char* name, int size, CUdevice device) {
  return about("cuDeviceGetName", device, [&] {
    std::snprintf(name, static_cast<size_t>(size), "Emulated GPU");
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return about("cuDeviceGetUuid_v2", device, [&] {
    for (int i = 0; i < 16; ++i) uuid->bytes[i] = static_cast<unsigned char>(16 * device + i);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceTotalMem_v2(size_t* num_bytes, CUdevice device) {
  return about("cuDeviceTotalMem_v2", device, [&] {
    *num_bytes = state().total_memory(device);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  return about("cuDeviceGetAttribute", device, [&] {
    switch (attribute) {
      case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = static_cast<int>(capability_of(device) / 10);
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = static_cast<int>(capability_of(device) % 10);
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = 4;  // few, so that work of a test's size is split as on a large device
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        *value = static_cast<int>(state().settings.max_shared_bytes);
        return CUDA_SUCCESS;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  });
}

CUresult cuDeviceCanAccessPeer(int* is_possible, CUdevice device, CUdevice peer) {
  return about("cuDeviceCanAccessPeer", device, [&] {
    if (!is_device(peer)) return CUDA_ERROR_INVALID_DEVICE;
    *is_possible = device != peer && state().settings.peers != 0 ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  return in_context("cuCtxEnablePeerAccess", [&](CUctx_st& context) {
    if (!state().is_alive(peer)) return CUDA_ERROR_INVALID_CONTEXT;
    if (flags != 0 || peer == &context) return CUDA_ERROR_INVALID_VALUE;
    if (state().settings.peers == 0) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    if (std::ranges::find(context.reachable, peer) != context.reachable.end())
      return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    context.reachable.push_back(peer);
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return about("cuDevicePrimaryCtxRetain", device, [&] {
    std::unique_ptr<CUctx_st>& primary = state().contexts[device];
    if (primary == nullptr) {
      primary = std::make_unique<CUctx_st>();
      primary->device = device;
      state().fault_text.clear();
    }
    ++primary->num_retains;
    *context = primary.get();
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return outside_context("cuDevicePrimaryCtxRelease_v2", [&] {
    const auto found = state().contexts.find(device);
    if (found == state().contexts.end()) return CUDA_ERROR_INVALID_CONTEXT;
    if (--found->second->num_retains == 0) state().destroy_context(device);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return outside_context("cuCtxGetCurrent", [&] {
    *context = fake::context_stack().empty() ? nullptr : fake::context_stack().back();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return outside_context("cuCtxPushCurrent_v2", [&] {
    if (!state().is_alive(context)) return CUDA_ERROR_INVALID_CONTEXT;
    fake::context_stack().push_back(context);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  return outside_context("cuCtxPopCurrent_v2", [&] {
    if (fake::context_stack().empty()) return CUDA_ERROR_INVALID_CONTEXT;
    *context = fake::context_stack().back();
    fake::context_stack().pop_back();
    return CUDA_SUCCESS;
  });
}

}  // namespace autoglm::cuda
