#include "emulated_kernels.h"

#include <cstring>

namespace autoglm::emulator {
namespace {

std::vector<EmulatedKernel>& registry() {
  static std::vector<EmulatedKernel> kernels;
  return kernels;
}

}  // namespace

const EmulatedKernel* find_kernel(const char* name) {
  for (const EmulatedKernel& each : registry()) {
    if (std::strcmp(each.name, name) == 0) return &each;
  }
  return nullptr;
}

const std::vector<EmulatedKernel>& emulated_kernels() { return registry(); }

KernelRegistration::KernelRegistration(const EmulatedKernel& kernel) { registry().push_back(kernel); }

}  // namespace autoglm::emulator
