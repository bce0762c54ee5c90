// A profiler that attaches through NVTX and writes down the ranges: what a tool does with
// NVTX_INJECTION64_PATH. Types as in NVTX 3, nvtxDetail/nvtxTypes.h.
#include <cstdint>
#include <string>

namespace {

std::string recorded;

struct Callbacks {
  size_t size;
  int (*module_functions)(int module, void (****table)(), unsigned* size);
};

}  // namespace

extern "C" {

__attribute__((visibility("default"))) const char* recorded_ranges() { return recorded.c_str(); }

__attribute__((visibility("default"))) int InitializeInjectionNvtx2(
    const void* (*exported_table)(uint32_t id)) {
  const auto* callbacks = static_cast<const Callbacks*>(exported_table(1));
  void (***table)() = nullptr;
  unsigned size = 0;
  if (callbacks->module_functions(1, &table, &size) == 0 || size != 16) return 0;
  const auto push = +[](const char* name) {
    recorded += std::string("<") + name;
    return 0;
  };
  const auto pop = +[] {
    recorded += ">";
    return 0;
  };
  *table[9] = reinterpret_cast<void (*)()>(push);
  *table[11] = reinterpret_cast<void (*)()>(pop);
  return 1;
}
}
