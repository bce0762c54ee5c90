// Which GPUs a model is loaded to, and which of its layers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cuda/driver/embedded_kernels.h"

namespace autoglm {

struct StageChoice {
  int32_t device_idx = 0;  // as cuda::inspect_driver numbers them
  int32_t first_layer = 0;
};

struct DeviceChoice {
  // At least one, of different devices: each has the layers up to those of the next one, the processor what
  // is before the first.
  std::vector<StageChoice> stages = {{}};
  std::string library;  // the driver's name or path for dlopen; empty for the usual one
  std::span<const cuda::EmbeddedModule> modules;  // cuda::embedded_modules(), all of whose kernels are loaded
};

}  // namespace autoglm
