// Declares what the library exports, so that a definition with another signature does not compile.
#pragma once

#include "cuda/driver/driver_api.h"

namespace autoglm::cuda {

extern "C" {
#define AUTOGLM_DRIVER_FUNCTION(name, ...) __attribute__((visibility("default"))) CUresult name(__VA_ARGS__);
#include "cuda/driver/driver_functions.def"
#undef AUTOGLM_DRIVER_FUNCTION
}

}  // namespace autoglm::cuda
