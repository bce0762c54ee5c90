// The kernels that are compiled into this program, by the name that a driver would find them under.
#pragma once

#include <cstddef>
#include <vector>

namespace autoglm::emulator {

struct EmulatedKernel {
  const char* name;
  size_t argument_bytes;              // of its one argument
  void (*run)(const void* argument);  // one thread of it
  // Optional: zeros between and behind the argument's members, where anything may lie.
  void (*clear_padding)(void* argument) = nullptr;
};

// Null when no kernel has this name.
const EmulatedKernel* find_kernel(const char* name);
const std::vector<EmulatedKernel>& emulated_kernels();

// Adds a kernel before `main`; see kernel_registry.inc.
struct KernelRegistration {
  explicit KernelRegistration(const EmulatedKernel& kernel);
};

}  // namespace autoglm::emulator
