#pragma once

#include <napi.h>

#include "model/adapter.h"
#include "runtime/load_request.h"

namespace autoglm::addon {

// Throws invalid_parameter naming the field that is wrong, and unsupported_model for mixtures of experts.
LoadRequest to_load_request(Napi::Value value);
AdapterRequest to_adapter_request(Napi::Value value);

// The word that stops a load once it is not zero; it lives as long as the request's `cancel`.
const int32_t* cancel_word(Napi::Value request);

}  // namespace autoglm::addon
