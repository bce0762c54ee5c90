// The kernels of the embedded modules, by the names of their entries. A module is loaded when one of its
// entries is first asked for.
#pragma once

#include <mutex>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cuda/driver/driver_api.h"
#include "cuda/driver/embedded_kernels.h"

namespace autoglm::cuda {

class Context;

struct Kernel {
  CUfunction function = nullptr;
  size_t argument_bytes = 0;  // of its one argument
};

class KernelLibrary {
 public:
  KernelLibrary(Context& context, std::span<const EmbeddedModule> modules);
  KernelLibrary(const KernelLibrary&) = delete;
  KernelLibrary& operator=(const KernelLibrary&) = delete;

  // Throws invalid_parameter when the module has no code for this device, internal for a name that no module
  // has. `dynamic_bytes`: shared memory beyond the static limit, which the kernel is allowed from then on.
  Kernel find(std::string_view entry, size_t dynamic_bytes);
  // Loads everything: errors come now, and no launch has to wait for it.
  void load_all();
  // For the end of the context.
  void unload() noexcept;

  std::span<const EmbeddedModule> modules() const { return modules_; }

 private:
  struct Entry {
    size_t module_idx;
    Kernel kernel;
    size_t allowed_dynamic_bytes = 0;
  };
  CUmodule load(size_t module_idx);
  void resolve(std::string_view name, Entry& entry);
  void allow_dynamic(std::string_view name, Entry& entry, size_t dynamic_bytes);

  Context& context_;
  std::span<const EmbeddedModule> modules_;
  std::mutex mutex_;
  std::vector<CUmodule> loaded_;  // as modules_, null until needed
  std::unordered_map<std::string_view, Entry> entries_;
};

}  // namespace autoglm::cuda
