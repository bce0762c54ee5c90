// The opened CUDA driver: a table of its functions, found with dlopen, and a report on what it can do here.
// Nothing in this folder needs a driver to be linked or loaded: where there is none, the report says so.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "cuda/driver/driver_api.h"

namespace autoglm::cuda {

template <typename... Params>
struct DriverFunction {
  const char* name;
  CUresult (*call)(Params...) = nullptr;
};

// Lives until the process ends, and so does the library: a driver may have threads and is never unloaded.
struct Driver {
#define AUTOGLM_DRIVER_FUNCTION(name, ...) DriverFunction<__VA_ARGS__> name{#name};
#include "cuda/driver/driver_functions.def"
#undef AUTOGLM_DRIVER_FUNCTION
  std::string library;  // what was opened

  // "CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access was encountered"
  std::string describe(CUresult result) const;
};

// Fills the table from `library`, a name or path for dlopen. Returns what went wrong: empty, dlerror's text,
// or the functions that are missing, which an old driver lacks.
struct OpenedLibrary {
  bool is_open = false;
  std::string error;
  std::vector<std::string> missing_functions;
};
OpenedLibrary load_driver(const std::string& library, Driver& driver);

// Kernels are built by a toolkit of CUDA 13, whose code older drivers refuse: 580 is the first of version 13.
inline constexpr int kMinDriverVersion = 13'000;  // as cuDriverGetVersion says: 1000 * major + 10 * minor
inline constexpr int kMinComputeCapability = 80;  // 10 * major + minor; bf16 products and cp.async begin here

enum class DriverStatus : uint8_t {
  ready,  // there is at least one supported device
  library_missing,
  driver_too_old,
  library_incomplete,
  initialization_failed,
  no_device,
  no_supported_device,
};

struct DeviceInfo {
  int index = 0;
  std::string name;
  std::string uuid;            // "GPU-" and 32 hexadecimal digits in five groups, as nvidia-smi prints it
  int compute_capability = 0;  // 10 * major + minor
  size_t total_bytes = 0;
  int num_multiprocessors = 0;
  size_t max_shared_bytes = 0;  // for one block, with opt-in
  bool is_supported = false;
};

// What `doctor` prints and what decides between CPU and GPU.
struct DriverReport {
  DriverStatus status = DriverStatus::library_missing;
  std::string problem;  // empty when ready: what is wrong, and
  std::string remedy;   // what to do about it
  std::string library;
  int driver_version = 0;  // 0 where it could not be asked
  std::vector<DeviceInfo> devices;

  bool is_ready() const { return status == DriverStatus::ready; }
};

DriverReport inspect(const Driver& driver, const OpenedLibrary& opened);

// After one of these the context is of no use: each later call returns the same, or something worse.
bool is_fatal(CUresult result);
ErrorCode error_code_of(CUresult result);

}  // namespace autoglm::cuda
