// Which GPU a model is loaded to, and which of its layers.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cuda/driver/embedded_kernels.h"

namespace autoglm {

struct DeviceChoice {
  int32_t device_idx = 0;   // as cuda::inspect_driver numbers them
  int32_t first_layer = 0;  // layers before it are the processor's
  std::string library;      // the driver's name or path for dlopen; empty for the usual one
  std::span<const cuda::EmbeddedModule> modules;  // cuda::embedded_modules(), all of whose kernels are loaded
};

}  // namespace autoglm
