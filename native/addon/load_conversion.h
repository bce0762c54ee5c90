#pragma once

#include <napi.h>

#include "runtime/load_request.h"

namespace autoglm::addon {

// Throws invalid_parameter naming the field that is wrong, and unsupported_model for mixtures of experts.
LoadRequest to_load_request(Napi::Value value);

}  // namespace autoglm::addon
