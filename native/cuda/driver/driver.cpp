#include "cuda/driver/driver.h"

#include <dlfcn.h>

#include <cstdlib>

namespace autoglm::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}
std::string capability_text(int capability) {
  return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

std::string uuid_text(const CUuuid& uuid) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[uuid.bytes[i] >> 4];
    text += kDigits[uuid.bytes[i] & 15];
  }
  return text;
}

DriverReport refuse(DriverReport report, DriverStatus status, std::string problem, std::string remedy) {
  report.status = status;
  report.problem = std::move(problem);
  report.remedy = std::move(remedy);
  return report;
}

// A device that goes away while it is asked is left out, with its index and the reason in `problem`.
bool read_device(const Driver& driver, int index, DeviceInfo& info, std::string& problem) {
  CUresult result = CUDA_SUCCESS;
  const char* function = nullptr;
  const auto ask = [&](const auto& asked, auto... args) {
    if (result != CUDA_SUCCESS) return;
    function = asked.name;
    result = asked.call(args...);
  };
  CUdevice device = 0;
  char name[256] = {};
  CUuuid uuid = {};
  int major = 0;
  int minor = 0;
  int shared_bytes = 0;
  ask(driver.cuDeviceGet, &device, index);
  ask(driver.cuDeviceGetName, name, static_cast<int>(sizeof(name)) - 1, device);
  ask(driver.cuDeviceGetUuid_v2, &uuid, device);
  ask(driver.cuDeviceTotalMem_v2, &info.total_bytes, device);
  ask(driver.cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
  ask(driver.cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
  ask(driver.cuDeviceGetAttribute, &info.num_multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
      device);
  ask(driver.cuDeviceGetAttribute, &shared_bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
      device);
  if (result != CUDA_SUCCESS) {
    problem += problem.empty() ? "" : "; ";
    problem += "GPU " + std::to_string(index) + ": " + function + ": " + driver.describe(result);
    return false;
  }
  info.index = index;
  info.name = name;
  info.uuid = uuid_text(uuid);
  info.compute_capability = 10 * major + minor;
  info.max_shared_bytes = static_cast<size_t>(shared_bytes);
  info.is_supported = info.compute_capability >= kMinComputeCapability;
  return true;
}

DriverReport list_devices(const Driver& driver, DriverReport report) {
  int count = 0;
  const CUresult result = driver.cuDeviceGetCount.call(&count);
  if (result != CUDA_SUCCESS) {
    return refuse(std::move(report), DriverStatus::initialization_failed,
                  "cuDeviceGetCount: " + driver.describe(result),
                  "run nvidia-smi, which asks the same driver");
  }
  bool is_any_supported = false;
  std::string problem;
  for (int i = 0; i < count; ++i) {
    DeviceInfo info;
    if (!read_device(driver, i, info, problem)) continue;
    is_any_supported |= info.is_supported;
    report.devices.push_back(std::move(info));
  }
  if (is_any_supported) {
    report.status = DriverStatus::ready;
    return report;
  }
  if (count == 0) {
    return refuse(std::move(report), DriverStatus::no_device, "the CUDA driver finds no GPU",
                  "check CUDA_VISIBLE_DEVICES, and in a container that it was started with its GPUs");
  }
  for (const DeviceInfo& each : report.devices) {
    problem += problem.empty() ? "" : "; ";
    problem += each.name + " has compute capability " + capability_text(each.compute_capability) +
               ", the kernels need " + capability_text(kMinComputeCapability) + " or later";
  }
  return refuse(std::move(report), DriverStatus::no_supported_device, std::move(problem),
                "use a GPU of the Ampere generation or later, or the CPU");
}

DriverReport refuse_initialization(const Driver& driver, DriverReport report, CUresult result) {
  if (result == CUDA_ERROR_NO_DEVICE) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    std::string problem = "the CUDA driver finds no GPU";
    if (visible != nullptr) problem += std::string("; CUDA_VISIBLE_DEVICES is '") + visible + "'";
    return refuse(std::move(report), DriverStatus::no_device, std::move(problem),
                  "run nvidia-smi; in a container, check that it was started with its GPUs");
  }
  const bool is_mismatch = result == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
  return refuse(std::move(report), DriverStatus::initialization_failed, "cuInit: " + driver.describe(result),
                is_mismatch
                    ? "libcuda and the kernel module are of different versions: reboot, or reload the module"
                    : "run nvidia-smi; a reboot helps after a fault of the GPU (Xid in the kernel's log)");
}

}  // namespace

std::string Driver::describe(CUresult result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName.call != nullptr) cuGetErrorName.call(result, &name);
  if (cuGetErrorString.call != nullptr) cuGetErrorString.call(result, &text);
  std::string described = name == nullptr ? "CUDA error" : name;
  described += " (" + std::to_string(result) + ")";
  if (text != nullptr) described += std::string(", ") + text;
  return described;
}

OpenedLibrary load_driver(const std::string& library, Driver& driver) {
  OpenedLibrary opened;
  driver.library = library;
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* error = dlerror();
    opened.error = error == nullptr ? "dlopen failed" : error;
    return opened;
  }
  opened.is_open = true;
  const auto find = [&](auto& function) {
    function.call = reinterpret_cast<decltype(function.call)>(dlsym(handle, function.name));
    if (function.call == nullptr) opened.missing_functions.push_back(function.name);
  };
#define AUTOGLM_DRIVER_FUNCTION(name, ...) find(driver.name);
#include "cuda/driver/driver_functions.def"
#undef AUTOGLM_DRIVER_FUNCTION
  return opened;
}

DriverReport inspect(const Driver& driver, const OpenedLibrary& opened) {
  DriverReport report;
  report.library = driver.library;
  if (!opened.is_open) {
    return refuse(std::move(report), DriverStatus::library_missing, "no CUDA driver: " + opened.error,
                  "install an NVIDIA driver of version 580 or later; in a container, start it with its GPUs");
  }
  if (driver.cuDriverGetVersion.call != nullptr &&
      driver.cuDriverGetVersion.call(&report.driver_version) != CUDA_SUCCESS) {
    report.driver_version = 0;
  }
  if (report.driver_version != 0 && report.driver_version < kMinDriverVersion) {
    return refuse(std::move(report), DriverStatus::driver_too_old,
                  "the CUDA driver supports CUDA " + version_text(report.driver_version) +
                      ", the kernels need " + version_text(kMinDriverVersion),
                  "update the NVIDIA driver to version 580 or later");
  }
  if (!opened.missing_functions.empty()) {
    return refuse(std::move(report), DriverStatus::library_incomplete,
                  driver.library + " lacks " + opened.missing_functions.front() + " and " +
                      std::to_string(opened.missing_functions.size() - 1) + " other functions",
                  "check that it is NVIDIA's libcuda, of a driver of version 580 or later");
  }
  const CUresult result = driver.cuInit.call(0);
  if (result != CUDA_SUCCESS) return refuse_initialization(driver, std::move(report), result);
  return list_devices(driver, std::move(report));
}

bool is_fatal(CUresult result) {
  switch (result) {
    case CUDA_ERROR_DEINITIALIZED:  // the process is ending
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTAINED:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
    case CUDA_ERROR_MPS_RPC_FAILURE:
    case CUDA_ERROR_MPS_CLIENT_TERMINATED:
    case CUDA_ERROR_UNKNOWN:
      return true;
    default:
      return false;
  }
}

ErrorCode error_code_of(CUresult result) {
  if (is_fatal(result)) return ErrorCode::device_lost;
  switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
      return ErrorCode::out_of_memory;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
      return ErrorCode::invalid_parameter;  // the choice of a device that cannot run the kernels
    default:
      return ErrorCode::internal;
  }
}

}  // namespace autoglm::cuda
