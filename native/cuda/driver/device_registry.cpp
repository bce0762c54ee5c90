#include "cuda/driver/device_registry.h"

#include <algorithm>
#include <map>
#include <utility>

namespace autoglm::cuda {
namespace {

struct OpenedDriver {
  Driver driver;
  OpenedLibrary opened;
};

struct Registry {
  std::mutex mutex;
  std::map<std::string, OpenedDriver> drivers;  // nodes stay where they are
  std::map<std::pair<std::string, int>, std::weak_ptr<Context>> contexts;
};

// Never destroyed: threads may still be computing when the destructors of a process run, and the driver is
// not to be called then.
Registry& registry() {
  alignas(Registry) static std::byte memory[sizeof(Registry)];
  static Registry* const instance = std::construct_at(reinterpret_cast<Registry*>(memory));
  return *instance;
}

// A library that could not be opened is tried again: it may have been installed since.
const OpenedDriver& open_driver(Registry& state, const std::string& library) {
  OpenedDriver& entry = state.drivers[library];
  if (!entry.opened.is_open) entry.opened = load_driver(library, entry.driver);
  return entry;
}

}  // namespace

DriverReport inspect_driver(const std::string& library) {
  Registry& state = registry();
  const std::lock_guard lock(state.mutex);
  const OpenedDriver& entry = open_driver(state, library);
  return inspect(entry.driver, entry.opened);
}

std::shared_ptr<Context> open_device(int device_idx, std::span<const EmbeddedModule> modules,
                                     const std::string& library) {
  Registry& state = registry();
  const std::lock_guard lock(state.mutex);
  std::weak_ptr<Context>& shared = state.contexts[{library, device_idx}];
  if (std::shared_ptr<Context> context = shared.lock()) {
    if (context->is_lost()) throw Error(ErrorCode::device_lost, context->loss());
    if (context->kernels().modules().data() != modules.data()) {
      throw Error(ErrorCode::internal, "a device was opened with other modules than those it has");
    }
    return context;
  }
  const OpenedDriver& entry = open_driver(state, library);
  const DriverReport report = inspect(entry.driver, entry.opened);
  if (!report.is_ready()) throw Error(ErrorCode::invalid_parameter, report.problem + "; " + report.remedy);
  const auto found = std::ranges::find(report.devices, device_idx, &DeviceInfo::index);
  if (found == report.devices.end()) {
    throw Error(ErrorCode::invalid_parameter, "expected a GPU in 0.." +
                                                  std::to_string(report.devices.back().index) + ", got " +
                                                  std::to_string(device_idx));
  }
  if (!found->is_supported) {
    throw Error(ErrorCode::invalid_parameter,
                "GPU " + std::to_string(device_idx) + " (" + found->name + ") has compute capability " +
                    std::to_string(found->compute_capability / 10) + "." +
                    std::to_string(found->compute_capability % 10) + ", the kernels need 8.0 or later");
  }
  auto context = std::make_shared<Context>(entry.driver, *found, modules);
  shared = context;
  return context;
}

}  // namespace autoglm::cuda
