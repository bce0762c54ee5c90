#include "state.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "control.h"

namespace autoglm::cuda::fake {
namespace {

struct Setting {
  const char* name;
  int64_t Settings::* field;
};
constexpr Setting kSettings[] = {
    {"driver_version", &Settings::driver_version},
    {"num_devices", &Settings::num_devices},
    {"compute_capability", &Settings::compute_capability},
    {"last_compute_capability", &Settings::last_compute_capability},
    {"total_memory", &Settings::total_memory},
    {"max_shared_bytes", &Settings::max_shared_bytes},
    {"init_result", &Settings::init_result},
    {"launch_failure_at", &Settings::launch_failure_at},
    {"launch_failure_code", &Settings::launch_failure_code},
    {"runs_at_once", &Settings::runs_at_once},
    {"order", &Settings::order},
    {"seed", &Settings::seed},
    {"peers", &Settings::peers},
    {"last_stream_first", &Settings::last_stream_first},
    {"runs_past", &Settings::runs_past},
    {"frees_at_once", &Settings::frees_at_once},
    {"failing_device", &Settings::failing_device},
};

// "name@3" is about device 3 alone; -1 where no device is named.
struct NamedFigure {
  explicit NamedFigure(const std::string& text) : name(text.substr(0, text.find('@'))) {
    if (name.size() < text.size()) device = std::atoi(text.c_str() + name.size() + 1);
  }
  std::string name;
  CUdevice device = -1;
};

bool change(Settings& settings, const std::string& text, int64_t value) {
  const auto& [name, device] = NamedFigure(text);
  if (device >= 0) {
    if (name == "total_memory") settings.memory_of_device[device] = value;
    return name == "total_memory";
  }
  const auto* found = std::ranges::find(kSettings, name, &Setting::name);
  if (found == std::end(kSettings)) return false;
  settings.*found->field = value;
  return true;
}

// "name=value" is a setting, "function:nth=code" a failure ahead.
void read_environment(State& state) {
  const char* text = std::getenv("AUTOGLM_FAKE_CUDA");
  std::istringstream parts(text == nullptr ? "" : text);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = part.substr(0, equals);
    const int64_t value = std::atoll(part.c_str() + equals + 1);
    const size_t colon = name.find(':');
    if (colon == std::string::npos) {
      change(state.settings, name, value);
    } else {
      state.failures[name.substr(0, colon)] = {std::atoll(name.c_str() + colon + 1),
                                               static_cast<CUresult>(value)};
    }
  }
}

bool is_spoiling(CUresult code) {
  const bool is_refusal =
      code == 701 || code == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED || code == CUDA_ERROR_TOO_MANY_PEERS;
  return (code >= CUDA_ERROR_ILLEGAL_ADDRESS && code < 800 && !is_refusal) ||
         code == CUDA_ERROR_ECC_UNCORRECTABLE || code == CUDA_ERROR_NVLINK_UNCORRECTABLE ||
         code == CUDA_ERROR_UNKNOWN;
}

size_t bytes_of(const std::map<std::byte*, size_t>& pieces) {
  size_t sum = 0;
  for (const auto& [address, num_bytes] : pieces) sum += num_bytes;
  return sum;
}

// Of one context.
template <typename T>
int64_t num_in(const Pool<T>& pool, CUcontext context) {
  return std::ranges::count_if(pool, [&](const auto& entry) { return entry.second->context == context; });
}

struct Count {
  const char* name;
  bool is_object;
  int64_t (*read)(CUcontext context);
};
constexpr Count kCounts[] = {
    {"contexts", true, [](CUcontext) { return int64_t{1}; }},
    {"modules", true, [](CUcontext context) { return num_in(state().modules, context); }},
    {"streams", true, [](CUcontext context) { return num_in(state().streams, context); }},
    {"events", true, [](CUcontext context) { return num_in(state().events, context); }},
    {"graphs", true, [](CUcontext context) { return num_in(state().graphs, context); }},
    {"graph_execs", true, [](CUcontext context) { return num_in(state().graph_execs, context); }},
    {"allocations", true,
     [](CUcontext context) { return static_cast<int64_t>(context->allocations.size()); }},
    {"pinned_allocations", true,
     [](CUcontext context) { return static_cast<int64_t>(context->pinned.size()); }},
    {"allocated_bytes", false,
     [](CUcontext context) { return static_cast<int64_t>(context->allocated_bytes); }},
    {"pinned_bytes", false,
     [](CUcontext context) { return static_cast<int64_t>(bytes_of(context->pinned)); }},
};

// Over the contexts of one device, or of all.
int64_t sum_of(const Count& count, CUdevice device) {
  int64_t sum = 0;
  for (const auto& [each, context] : state().contexts) {
    if (device < 0 || each == device) sum += count.read(context.get());
  }
  return sum;
}

}  // namespace

State& state() {
  alignas(State) static std::byte memory[sizeof(State)];
  static State* const instance = [] {
    State* made = std::construct_at(reinterpret_cast<State*>(memory));
    read_environment(*made);
    return made;
  }();
  return *instance;
}

std::vector<CUcontext>& context_stack() {
  thread_local std::vector<CUcontext> stack;
  return stack;
}

bool State::is_alive(CUcontext context) const {
  return std::ranges::any_of(contexts, [&](const auto& entry) { return entry.second.get() == context; });
}

bool State::is_pinned(const void* address, size_t num_bytes) const {
  const auto* begin = static_cast<const std::byte*>(address);
  return std::ranges::any_of(contexts, [&](const auto& entry) {
    return std::ranges::any_of(entry.second->pinned, [&](const auto& piece) {
      return begin >= piece.first && begin + num_bytes <= piece.first + piece.second;
    });
  });
}

CUdevice State::owner_of(const void* address) const {
  const auto found =
      std::ranges::find_if(memories, [&](const auto& entry) { return entry.second.has_address(address); });
  return found == memories.end() ? -1 : found->first;
}

size_t State::total_memory(CUdevice device) const {
  const auto found = settings.memory_of_device.find(device);
  return static_cast<size_t>(found == settings.memory_of_device.end() ? settings.total_memory
                                                                      : found->second);
}

bool State::may_fail(CUdevice device) const {
  return settings.failing_device < 0 || settings.failing_device == device;
}

void State::destroy_context(CUdevice device) {
  CUctx_st* context = contexts.at(device).get();
  for (const auto& [address, num_bytes] : context->allocations) memory_of(*context).free(address);
  for (const auto& [other, each] : contexts) std::erase(each->reachable, context);
  for (const auto& [address, num_bytes] : context->pinned) std::free(address);
  modules.remove_of(context);
  streams.remove_of(context);
  events.remove_of(context);
  graphs.remove_of(context);
  graph_execs.remove_of(context);
  contexts.erase(device);
}

CUresult take_planned_failure(const char* function) {
  const auto found = state().failures.find(function);
  if (found == state().failures.end() || --found->second.calls_left > 0) return CUDA_SUCCESS;
  const CUresult code = found->second.code;
  state().failures.erase(found);
  return code;
}

CUresult in_context(const char* function, const std::function<CUresult(CUctx_st& context)>& body) {
  const std::lock_guard lock(state().mutex);
  if (!state().is_initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (context_stack().empty()) return CUDA_ERROR_INVALID_CONTEXT;
  const CUcontext context = context_stack().back();
  if (!state().is_alive(context)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (context->fatal != CUDA_SUCCESS) {
    ++state().num_refused;
    return context->fatal;
  }
  const CUresult planned = state().may_fail(context->device) ? take_planned_failure(function) : CUDA_SUCCESS;
  if (planned != CUDA_SUCCESS) {
    if (is_spoiling(planned)) context->fatal = planned;
    return planned;
  }
  try {
    return body(*context);
  } catch (const Fault& fault) {
    context->fatal = fault.code;
    state().fault_text = fault.text;
    return fault.code;
  }
}

CUresult outside_context(const char* function, const std::function<CUresult()>& body) {
  const std::lock_guard lock(state().mutex);
  if (const CUresult planned = take_planned_failure(function); planned != CUDA_SUCCESS) return planned;
  return body();
}

}  // namespace autoglm::cuda::fake

#define AUTOGLM_EXPORTED __attribute__((visibility("default")))
using namespace autoglm::cuda;

AUTOGLM_EXPORTED bool autoglm_fake_cuda_set(const char* name, int64_t value) {
  const std::lock_guard lock(fake::state().mutex);
  return fake::change(fake::state().settings, name, value);
}

AUTOGLM_EXPORTED void autoglm_fake_cuda_fail(const char* function, int64_t nth, int code) {
  const std::lock_guard lock(fake::state().mutex);
  fake::state().failures[function] = {nth, code};
}

AUTOGLM_EXPORTED int64_t autoglm_fake_cuda_count(const char* name) {
  const std::lock_guard lock(fake::state().mutex);
  const fake::NamedFigure figure(name);
  if (figure.name == "launches") return fake::state().num_launches;
  if (figure.name == "peer_copies") return fake::state().num_peer_copies;
  if (figure.name == "refused") return fake::state().num_refused;
  int64_t num_objects = 0;
  for (const fake::Count& each : fake::kCounts) {
    if (figure.name == each.name) return fake::sum_of(each, figure.device);
    if (each.is_object) num_objects += fake::sum_of(each, figure.device);
  }
  return figure.name == "objects" ? num_objects : -1;
}

AUTOGLM_EXPORTED void autoglm_fake_cuda_reset() {
  fake::State& state = fake::state();
  const std::lock_guard lock(state.mutex);
  state.settings = {};
  fake::read_environment(state);
  state.failures.clear();
  state.fault_text.clear();
  state.num_launches = 0;
  state.num_peer_copies = 0;
  state.num_refused = 0;
}
