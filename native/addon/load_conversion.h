#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>

#include "model/adapter.h"
#include "runtime/load_request.h"
#include "runtime/save_job.h"

namespace autoglm::addon {

// Throws invalid_parameter naming the field that is wrong, and unsupported_model for mixtures of experts.
LoadRequest to_load_request(Napi::Value value);
AdapterRequest to_adapter_request(Napi::Value value);
SaveRequest to_save_request(Napi::Value value);

// Checksums as JavaScript keeps them: an Int32Array, the low word of each first.
Napi::Value checksum_words(Napi::Env env, std::span<const uint64_t> checksums);
// A hash as 16 hexadecimal digits.
std::string hash_text(uint64_t hash);

// The word that stops a load once it is not zero; it lives as long as the request's `cancel`.
const int32_t* cancel_word(Napi::Value request);

}  // namespace autoglm::addon
