// In place of compiled kernels, which the fake driver knows by their names.
#include "backend/emulated_modules.h"
#include "cuda/driver/embedded_kernels.h"

namespace autoglm::cuda {

std::span<const EmbeddedModule> embedded_modules() { return test::emulated_modules(); }

}  // namespace autoglm::cuda
