// The compiled kernels that the binary carries. scripts/build-cuda.mjs generates the definition; a program
// without kernels of its own links another one.
#pragma once

#include <cstddef>
#include <span>

namespace autoglm::cuda {

// One .cu file, compiled for every target: what cuModuleLoadData takes.
struct EmbeddedModule {
  std::span<const std::byte> image;
  std::span<const char* const> entries;  // names of its entry points; no other module has them
};

// Constant data: nothing of it is made before main or destroyed after it.
std::span<const EmbeddedModule> embedded_modules();

}  // namespace autoglm::cuda
