// Everything the fake driver knows. One mutex guards it: the emulator runs one kernel at a time anyway.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/driver/driver_api.h"
#include "device_memory.h"
#include "emulator/emulated_kernels.h"

namespace autoglm::cuda {

// One thing for the device to do.
struct Operation {
  std::function<void()> run;
  std::function<void()> queue = nullptr;  // when it enters a queue
  bool is_wait = false;                   // for another stream: does nothing with memory itself
};
using Operations = std::vector<Operation>;

// Definitions of the handles that driver_api.h leaves open.
struct CUctx_st {
  CUdevice device = 0;
  int num_retains = 0;
  CUresult fatal = CUDA_SUCCESS;
  size_t allocated_bytes = 0;
  std::map<std::byte*, size_t> allocations;
  std::map<std::byte*, size_t> pinned;
  std::vector<CUcontext> reachable;  // peers that copies go to directly
};
struct CUfunc_st {
  const emulator::EmulatedKernel* kernel;
  size_t max_dynamic_bytes;
};
struct CUmod_st {
  CUcontext context;
  std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};
struct CUstream_st {
  CUcontext context;
  uint64_t id;
  std::deque<Operation> queue;
  uint64_t num_queued = 0;
  uint64_t num_done = 0;
  bool is_capturing = false;
  bool is_capture_broken = false;
  Operations captured;
};
struct CUevent_st {
  CUcontext context;
  uint64_t stream_id = 0;  // 0: never recorded
  uint64_t position = 0;   // how many operations of the stream come before it
};
struct CUgraph_st {
  CUcontext context;
  Operations operations;
};
struct CUgraphExec_st {
  CUcontext context;
  Operations operations;
};

namespace fake {

// What spoils a context.
struct Fault {
  CUresult code;
  std::string text;
};

template <typename T>
class Pool {
 public:
  T* add(std::unique_ptr<T> object) {
    T* handle = object.get();
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  bool has(T* handle) const { return objects_.contains(handle); }
  bool remove(T* handle) { return objects_.erase(handle) > 0; }
  void remove_of(CUcontext context) {
    std::erase_if(objects_, [&](const auto& entry) { return entry.second->context == context; });
  }
  size_t size() const { return objects_.size(); }
  auto begin() const { return objects_.begin(); }
  auto end() const { return objects_.end(); }

 private:
  std::map<T*, std::unique_ptr<T>> objects_;
};

struct Settings {
  int64_t driver_version = 13'000;
  int64_t num_devices = 1;
  int64_t compute_capability = 90;
  int64_t last_compute_capability = 0;
  int64_t total_memory = int64_t{8} << 30;
  int64_t max_shared_bytes = 232'448;
  int64_t init_result = CUDA_SUCCESS;
  int64_t launch_failure_at = 0;
  int64_t launch_failure_code = CUDA_ERROR_LAUNCH_FAILED;
  int64_t runs_at_once = 0;
  int64_t order = 0;
  int64_t seed = 0;
  int64_t peers = 1;
  int64_t last_stream_first = 0;
  int64_t runs_past = 0;
  int64_t frees_at_once = 0;
  int64_t failing_device = -1;
  std::map<CUdevice, int64_t> memory_of_device;  // where it is not total_memory
};

struct PlannedFailure {
  int64_t calls_left;
  CUresult code;
};

struct State {
  std::mutex mutex;
  Settings settings;
  std::map<std::string, PlannedFailure> failures;  // by function
  bool is_initialized = false;
  std::string fault_text;  // of the last fault: cuGetErrorString adds it
  std::map<CUdevice, std::unique_ptr<CUctx_st>> contexts;
  std::map<CUdevice, DeviceMemoryRange> memories;
  Pool<CUmod_st> modules;
  Pool<CUstream_st> streams;
  Pool<CUevent_st> events;
  Pool<CUgraph_st> graphs;
  Pool<CUgraphExec_st> graph_execs;
  uint64_t last_stream_id = 0;
  int64_t num_launches = 0;
  int64_t num_peer_copies = 0;
  int64_t num_refused = 0;  // calls that met a context already spoiled

  bool is_alive(CUcontext context) const;
  DeviceMemoryRange& memory_of(const CUctx_st& context) { return memories[context.device]; }
  // The device whose memory the address is in, or -1.
  CUdevice owner_of(const void* address) const;
  size_t total_memory(CUdevice device) const;
  // Whether failures that are planned happen there.
  bool may_fail(CUdevice device) const;
  bool is_pinned(const void* address, size_t num_bytes) const;
  void destroy_context(CUdevice device);
};

// Never destroyed, as a driver's.
State& state();
// Of the calling thread; the last one is current.
std::vector<CUcontext>& context_stack();

// The code of the failure that is planned for this call, or 0.
CUresult take_planned_failure(const char* function);

// Body of an exported function that needs a current context; faults in it spoil that context.
CUresult in_context(const char* function, const std::function<CUresult(CUctx_st& context)>& body);
// Body of any other function.
CUresult outside_context(const char* function, const std::function<CUresult()>& body);

}  // namespace fake
}  // namespace autoglm::cuda
