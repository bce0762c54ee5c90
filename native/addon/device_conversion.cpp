#include "addon/device_conversion.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"

#if defined(AUTOGLM_HAS_CUDA)
#include "cuda/driver/device_registry.h"
#endif

namespace autoglm::addon {
namespace {

constexpr int64_t kMaxDeviceIdx = 1023;

#if defined(AUTOGLM_HAS_CUDA)
const std::string& named_library(const std::string& library) {
  static const std::string usual(cuda::kDriverLibrary);
  return library.empty() ? usual : library;
}

const char* name_of(cuda::DriverStatus status) {
  switch (status) {
    case cuda::DriverStatus::ready:
      return "ready";
    case cuda::DriverStatus::library_missing:
      return "library_missing";
    case cuda::DriverStatus::driver_too_old:
      return "driver_too_old";
    case cuda::DriverStatus::library_incomplete:
      return "library_incomplete";
    case cuda::DriverStatus::initialization_failed:
      return "initialization_failed";
    case cuda::DriverStatus::no_device:
      return "no_device";
    case cuda::DriverStatus::no_supported_device:
      break;
  }
  return "no_supported_device";
}

Napi::Object to_object(Napi::Env env, const cuda::DeviceInfo& device) {
  auto result = Napi::Object::New(env);
  result.Set("index", device.index);
  result.Set("name", device.name);
  result.Set("uuid", device.uuid);
  result.Set("computeCapability", device.compute_capability);
  result.Set("totalBytes", static_cast<double>(device.total_bytes));
  result.Set("numMultiprocessors", device.num_multiprocessors);
  result.Set("isSupported", device.is_supported);
  return result;
}
#endif

// Each stage begins behind the one before it, on another device.
std::vector<StageChoice> to_stages(const JsObject& device, int64_t num_layers) {
  std::vector<StageChoice> stages;
  const int64_t last_layer = std::max<int64_t>(0, num_layers - 1);
  for (const JsObject& stage : device.objects("stages")) {
    const auto device_idx = static_cast<int32_t>(stage.integer("index", 0, kMaxDeviceIdx));
    if (std::ranges::find(stages, device_idx, &StageChoice::device_idx) != stages.end()) {
      throw Error(ErrorCode::invalid_parameter, stage.path_of("index") +
                                                    ": expected a device that no stage before it has, got " +
                                                    std::to_string(device_idx));
    }
    const int64_t least = stages.empty() ? 0 : stages.back().first_layer + 1;
    const auto first_layer = static_cast<int32_t>(stage.integer("firstLayer", least, last_layer));
    stages.push_back({.device_idx = device_idx, .first_layer = first_layer});
  }
  if (stages.empty())
    throw Error(ErrorCode::invalid_parameter, device.path_of("stages") + ": expected at least one, got none");
  return stages;
}

}  // namespace

std::optional<DeviceChoice> to_device_choice(const JsObject& request, int64_t num_layers) {
  if (request.is_null("device")) return std::nullopt;
  const JsObject device = request.object("device");
  DeviceChoice choice;
  choice.stages = to_stages(device, num_layers);
  if (!device.is_null("library")) choice.library = device.text("library");
#if defined(AUTOGLM_HAS_CUDA)
  choice.modules = cuda::embedded_modules();
#endif
  return choice;
}

#if defined(AUTOGLM_HAS_CUDA)
Napi::Value describe_driver(Napi::Env env, const std::string& library) {
  const cuda::DriverReport report = cuda::inspect_driver(named_library(library));
  auto devices = Napi::Array::New(env, report.devices.size());
  for (size_t i = 0; i < report.devices.size(); ++i) {
    devices.Set(static_cast<uint32_t>(i), to_object(env, report.devices[i]));
  }
  auto result = Napi::Object::New(env);
  result.Set("status", name_of(report.status));
  result.Set("problem", report.problem);
  result.Set("remedy", report.remedy);
  result.Set("library", report.library);
  result.Set("driverVersion", report.driver_version);
  result.Set("devices", devices);
  return result;
}

Napi::Value describe_device_memory(Napi::Env env, int device_idx, const std::string& library) {
  const auto context = cuda::open_device(device_idx, cuda::embedded_modules(), named_library(library));
  const auto memory = context->memory();
  auto result = Napi::Object::New(env);
  result.Set("freeBytes", static_cast<double>(memory.free_bytes));
  result.Set("totalBytes", static_cast<double>(memory.total_bytes));
  return result;
}
#endif

}  // namespace autoglm::addon
