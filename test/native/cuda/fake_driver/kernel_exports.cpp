// Modules and launches. Any image is a module; its kernels are those that are linked into this library.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "emulator/thread_block.h"
#include "exports.h"
#include "queues.h"
#include "shared_memory.h"
#include "state.h"

namespace autoglm::cuda {

using fake::Fault;
using fake::in_context;
using fake::state;

namespace {

constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxGridY = 65'535;
constexpr size_t kMaxStaticShared = 48 << 10;

struct PlannedLaunch {
  CUcontext context;
  const emulator::EmulatedKernel* kernel;
  emulator::Grid grid;
  unsigned num_threads;
  size_t dynamic_bytes;
  std::vector<std::byte> argument;
};

bool is_mapped(uintptr_t address) {
  constexpr uintptr_t kPageMask = ~uintptr_t{4095};
  unsigned char residence = 0;
  return mincore(reinterpret_cast<void*>(address & kPageMask), 1, &residence) == 0;
}

// Stacks, heaps and libraries of a 64-bit process lie above; two small integers side by side, read as an
// address, and the shadow memory of AddressSanitizer lie below.
constexpr uintptr_t kFirstHostAddress = uintptr_t{0x5000} << 32;

// A real device would fault on the first access to either; here it would work and prove nothing.
void refuse_foreign_pointers(const PlannedLaunch& launch) {
  std::vector<std::byte> argument = launch.argument;
  if (launch.kernel->clear_padding != nullptr) launch.kernel->clear_padding(argument.data());
  for (size_t offset = 0; offset + sizeof(uintptr_t) <= argument.size(); offset += sizeof(uintptr_t)) {
    uintptr_t word = 0;
    std::memcpy(&word, argument.data() + offset, sizeof(word));
    const auto* address = reinterpret_cast<const void*>(word);
    const CUdevice owner = state().owner_of(address);
    const bool is_foreign = owner >= 0 && owner != launch.context->device;
    const bool is_of_host =
        owner < 0 && !state().is_pinned(address, 1) && word >= kFirstHostAddress && is_mapped(word);
    if (!is_foreign && !is_of_host) continue;
    throw Fault{CUDA_ERROR_ILLEGAL_ADDRESS,
                std::string("the argument of ") + launch.kernel->name + " has an address of " +
                    (is_foreign ? "device " + std::to_string(owner) : std::string("host memory")) +
                    " at byte " + std::to_string(offset)};
  }
}

void run_launch(const PlannedLaunch& launch) {
  fake::Settings& settings = state().settings;
  ++state().num_launches;
  const bool may_fail = state().may_fail(launch.context->device);
  if (may_fail && settings.launch_failure_at > 0 && --settings.launch_failure_at == 0) {
    throw Fault{static_cast<CUresult>(settings.launch_failure_code),
                std::string("planned failure of ") + launch.kernel->name};
  }
  refuse_foreign_pointers(launch);
  const emulator::Schedule schedule{static_cast<emulator::Order>(settings.order),
                                    static_cast<uint64_t>(settings.seed)};
  fake::SharedMemory shared(launch.dynamic_bytes);
  try {
    emulator::run_kernel({launch.grid, launch.num_threads, 0}, schedule,
                         [&] { launch.kernel->run(launch.argument.data()); });
  } catch (const emulator::KernelFault& fault) {
    throw Fault{CUDA_ERROR_LAUNCH_FAILED, std::string(launch.kernel->name) + ": " + fault.what()};
  }
  if (const auto overrun = state().memory_of(*launch.context).find_overrun()) {
    throw Fault{CUDA_ERROR_ILLEGAL_ADDRESS, std::string(launch.kernel->name) + " wrote " + *overrun};
  }
}

// Of a module of this context.
CUfunction find_function(CUfunction function, const CUctx_st& context) {
  for (const auto& [handle, module] : state().modules) {
    for (const auto& [name, each] : module->functions) {
      if (each.get() == function) return module->context == &context ? function : nullptr;
    }
  }
  return nullptr;
}

}  // namespace

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned num_options, int* options,
                            void** values) {
  bool is_entered = false;
  const CUresult result = in_context("cuModuleLoadDataEx", [&](CUctx_st& context) {
    is_entered = true;
    if (image == nullptr) return CUDA_ERROR_INVALID_IMAGE;
    *module = state().modules.add(std::make_unique<CUmod_st>(&context));
    return CUDA_SUCCESS;
  });
  if (is_entered) return result;
  for (unsigned i = 0; i + 1 < num_options; ++i) {  // what a driver says when it refuses an image
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER && options[i + 1] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
      std::snprintf(static_cast<char*>(values[i]), reinterpret_cast<size_t>(values[i + 1]),
                    "the emulated linker refuses this image");
    }
  }
  return result;
}

CUresult cuModuleUnload(CUmodule module) {
  return in_context("cuModuleUnload", [&](CUctx_st& context) {
    if (!state().modules.has(module)) return CUDA_ERROR_INVALID_HANDLE;
    fake::run_all(context);
    state().modules.remove(module);
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return in_context("cuModuleGetFunction", [&](CUctx_st&) {
    if (!state().modules.has(module)) return CUDA_ERROR_INVALID_HANDLE;
    const emulator::EmulatedKernel* kernel = emulator::find_kernel(name);
    if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
    std::unique_ptr<CUfunc_st>& entry = module->functions[name];
    if (entry == nullptr) entry = std::make_unique<CUfunc_st>(kernel, kMaxStaticShared);
    *function = entry.get();
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  return in_context("cuFuncSetAttribute", [&](CUctx_st& context) {
    if (find_function(function, context) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
        value > state().settings.max_shared_bytes) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    function->max_dynamic_bytes = static_cast<size_t>(value);
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* num_bytes) {
  return in_context("cuFuncGetParamInfo", [&](CUctx_st& context) {
    if (find_function(function, context) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (index > 0) return CUDA_ERROR_INVALID_VALUE;
    *offset = 0;
    *num_bytes = function->kernel->argument_bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned threads_x, unsigned threads_y, unsigned threads_z, unsigned dynamic_bytes,
                        CUstream stream, void** arguments, void**) {
  return in_context("cuLaunchKernel", [&](CUctx_st& context) {
    if (find_function(function, context) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (!state().streams.has(stream) || stream->context != &context) return CUDA_ERROR_INVALID_HANDLE;
    const bool is_legal = grid_x > 0 && grid_x <= 0x7fffffff && grid_y > 0 && grid_y <= kMaxGridY &&
                          grid_z > 0 && grid_z <= kMaxGridY && threads_x > 0 && threads_x <= kMaxThreads &&
                          threads_y == 1 && threads_z == 1 && dynamic_bytes <= function->max_dynamic_bytes;
    if (!is_legal) return CUDA_ERROR_INVALID_VALUE;
    const auto* argument = static_cast<const std::byte*>(arguments[0]);
    const auto launch = std::make_shared<const PlannedLaunch>(
        PlannedLaunch{&context,
                      function->kernel,
                      {grid_x, grid_y, grid_z},
                      threads_x,
                      dynamic_bytes,
                      {argument, argument + function->kernel->argument_bytes}});
    return fake::queue(stream, {[launch] { run_launch(*launch); }, {}});
  });
}

}  // namespace autoglm::cuda
