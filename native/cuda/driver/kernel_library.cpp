#include "cuda/driver/kernel_library.h"

#include <array>
#include <cstdint>
#include <string>

#include "cuda/driver/context.h"

namespace autoglm::cuda {

KernelLibrary::KernelLibrary(Context& context, std::span<const EmbeddedModule> modules)
    : context_(context), modules_(modules), loaded_(modules.size(), nullptr) {
  for (size_t i = 0; i < modules_.size(); ++i) {
    for (const char* name : modules_[i].entries) entries_.emplace(name, Entry{i, {}});
  }
}

Kernel KernelLibrary::find(std::string_view name, size_t dynamic_bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw Error(ErrorCode::internal, "no embedded module has a kernel named " + std::string(name));
  }
  Entry& entry = found->second;
  if (entry.kernel.function == nullptr) resolve(name, entry);
  if (dynamic_bytes > entry.allowed_dynamic_bytes) allow_dynamic(name, entry, dynamic_bytes);
  return entry.kernel;
}

void KernelLibrary::load_all() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, entry] : entries_) {
    if (entry.kernel.function == nullptr) resolve(name, entry);
  }
}

void KernelLibrary::unload() noexcept {
  for (CUmodule& each : loaded_) {
    if (each != nullptr) context_.release(context_.driver().cuModuleUnload, each);
    each = nullptr;
  }
}

CUmodule KernelLibrary::load(size_t module_idx) {
  CUmodule& module = loaded_[module_idx];
  if (module != nullptr) return module;
  const Driver& driver = context_.driver();
  std::array<char, 4096> log = {};  // what the linker or the JIT compiler has to say
  int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log.data(), reinterpret_cast<void*>(log.size() - 1)};
  const CUresult result =
      context_.try_call(driver.cuModuleLoadDataEx, &module,
                        static_cast<const void*>(modules_[module_idx].image.data()), 2u, options, values);
  if (result == CUDA_SUCCESS) return module;
  module = nullptr;
  const int capability = context_.device().compute_capability;
  std::string what = "module with kernel " + std::string(modules_[module_idx].entries.front()) +
                     " for compute capability " + std::to_string(capability / 10) + "." +
                     std::to_string(capability % 10);
  if (log[0] != '\0') what += std::string(": ") + log.data();
  context_.throw_error(driver.cuModuleLoadDataEx.name, result, what);
}

void KernelLibrary::resolve(std::string_view name, Entry& entry) {
  const Driver& driver = context_.driver();
  const CUmodule module = load(entry.module_idx);
  const std::string terminated(name);
  Kernel kernel;
  const CUresult result =
      context_.try_call(driver.cuModuleGetFunction, &kernel.function, module, terminated.c_str());
  if (result != CUDA_SUCCESS) context_.throw_error(driver.cuModuleGetFunction.name, result, terminated);
  size_t offset = 0;
  context_.call(driver.cuFuncGetParamInfo, kernel.function, size_t{0}, &offset, &kernel.argument_bytes);
  entry.kernel = kernel;
}

void KernelLibrary::allow_dynamic(std::string_view name, Entry& entry, size_t dynamic_bytes) {
  const size_t most = context_.device().max_shared_bytes;
  if (dynamic_bytes > most) {
    throw Error(ErrorCode::internal, std::string(name) + " wants " + std::to_string(dynamic_bytes) +
                                         " bytes of shared memory, " + context_.device().name + " has " +
                                         std::to_string(most));
  }
  context_.call(context_.driver().cuFuncSetAttribute, entry.kernel.function,
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(dynamic_bytes));
  entry.allowed_dynamic_bytes = dynamic_bytes;
}

}  // namespace autoglm::cuda
