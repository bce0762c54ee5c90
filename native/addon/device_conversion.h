// The GPUs of this machine as JavaScript sees them, and those that a load names.
#pragma once

#include <napi.h>

#include <optional>

#include "addon/js_object.h"
#include "model/gpu/device_choice.h"

namespace autoglm::addon {

// NativeLoadRequest.device in lib/native/addon.ts, for a model of so many layers.
std::optional<DeviceChoice> to_device_choice(const JsObject& request, int64_t num_layers);

#if defined(AUTOGLM_HAS_CUDA)
// DriverReport in lib/native/addon.ts.
Napi::Value describe_driver(Napi::Env env, const std::string& library);
// The device's memory, {freeBytes, totalBytes}. Opens its context for as long as it takes.
Napi::Value describe_device_memory(Napi::Env env, int device_idx, const std::string& library);
#endif

}  // namespace autoglm::addon
