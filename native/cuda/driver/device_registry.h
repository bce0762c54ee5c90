// The one state of this process: which drivers are open and which devices are in use. Devices are shared, and
// let go by their last holder; drivers stay.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "cuda/driver/context.h"

namespace autoglm::cuda {

inline constexpr const char* kDriverLibrary = "libcuda.so.1";

// What there is and what is missing. Never throws for what is not there. `library` is a name or path for
// dlopen.
DriverReport inspect_driver(const std::string& library = kDriverLibrary);

// The device of this index in the report. Throws invalid_parameter with the report's problem and remedy when
// it cannot be used, device_lost when others hold it and it is lost, out_of_memory when it has no room for a
// context. All holders of a device name the same modules.
std::shared_ptr<Context> open_device(int device_idx, std::span<const EmbeddedModule> modules,
                                     const std::string& library = kDriverLibrary);

}  // namespace autoglm::cuda
