#include "cuda/driver/profiler_range.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

// How a profiler attaches: it sets NVTX_INJECTION64_PATH to a library, which we open and whose entry point we
// hand a function that gives out tables. It writes its own functions to the places that the tables name.
// Source: NVTX 3, nvtxDetail/nvtxInit.h and nvtxTypes.h; numbers and structures are its binary interface.
namespace autoglm::cuda {
namespace {

using Function = void (*)();
using Push = int (*)(const char* name);
using Pop = int (*)();

enum Module : int { kCore = 1, kCuda, kOpenCl, kCudaRuntime, kCore2, kSync, kNumModules };
constexpr unsigned kModuleSizes[kNumModules] = {0, 16, 9, 15, 7, 16, 7};
constexpr unsigned kMaxModuleSize = 16;
constexpr unsigned kRangePush = 9;  // of the core module, with a plain string
constexpr unsigned kRangePop = 11;
constexpr uint32_t kCallbacks = 1;  // ids of the two exported tables
constexpr uint32_t kVersionInfo = 3;

struct Slots {
  Function functions[kNumModules][kMaxModuleSize] = {};
  Function* addresses[kNumModules][kMaxModuleSize + 1] = {};  // the first and the last of a module are null
};

// Where the profiler writes; once, while it attaches.
Slots& slots() {
  static Slots instance;
  return instance;
}

int module_functions(int module, Function*** table, unsigned* size) {
  if (module < kCore || module >= kNumModules) return 0;
  if (table != nullptr) *table = slots().addresses[module];
  if (size != nullptr) *size = kModuleSizes[module];
  return 1;
}

struct Callbacks {
  size_t size = sizeof(Callbacks);
  int (*module_functions)(int module, Function*** table, unsigned* size) = &cuda::module_functions;
};
struct VersionInfo {
  size_t size = sizeof(VersionInfo);
  uint32_t version = 3;
  uint32_t reserved = 0;
  void (*set_profiler_version)(uint32_t version) = [](uint32_t) {};
};

const void* exported_table(uint32_t id) {
  static const Callbacks callbacks;
  static const VersionInfo version_info;
  if (id == kCallbacks) return &callbacks;
  return id == kVersionInfo ? &version_info : nullptr;
}

struct Ranges {
  Push push = nullptr;
  Pop pop = nullptr;
};

Ranges attach() {
  const char* path = std::getenv("NVTX_INJECTION64_PATH");
  if (path == nullptr) return {};
  void* library = dlopen(path, RTLD_LAZY);
  if (library == nullptr) return {};
  using Initialize = int (*)(const void* (*exported_table)(uint32_t id));
  const auto initialize = reinterpret_cast<Initialize>(dlsym(library, "InitializeInjectionNvtx2"));
  if (initialize == nullptr) return {};
  for (int module = kCore; module < kNumModules; ++module) {
    for (unsigned i = 1; i < kModuleSizes[module]; ++i) {
      slots().addresses[module][i] = &slots().functions[module][i];
    }
  }
  if (initialize(&exported_table) == 0) return {};
  const Function push = slots().functions[kCore][kRangePush];
  const Function pop = slots().functions[kCore][kRangePop];
  if (push == nullptr || pop == nullptr) return {};
  return {reinterpret_cast<Push>(push), reinterpret_cast<Pop>(pop)};
}

const Ranges& ranges() {
  static const Ranges attached = attach();
  return attached;
}

}  // namespace

ProfilerRange::ProfilerRange(const char* name) {
  if (ranges().push != nullptr) ranges().push(name);
}
ProfilerRange::~ProfilerRange() {
  if (ranges().pop != nullptr) ranges().pop();
}

}  // namespace autoglm::cuda
