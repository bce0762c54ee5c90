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
};

bool change(Settings& settings, const std::string& name, int64_t value) {
  const auto* found = std::ranges::find(kSettings, name, &Setting::name);
  if (found == std::end(kSettings)) return false;
  settings.*found->field = value;
  return true;
}

Settings settings_of_environment() {
  Settings settings;
  const char* text = std::getenv("AUTOGLM_FAKE_CUDA");
  std::istringstream parts(text == nullptr ? "" : text);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos) continue;
    change(settings, part.substr(0, equals), std::atoll(part.c_str() + equals + 1));
  }
  return settings;
}

bool is_spoiling(CUresult code) {
  return (code >= CUDA_ERROR_ILLEGAL_ADDRESS && code < 800 && code != 701) ||
         code == CUDA_ERROR_ECC_UNCORRECTABLE || code == CUDA_ERROR_NVLINK_UNCORRECTABLE ||
         code == CUDA_ERROR_UNKNOWN;
}

int64_t sum_of(size_t (*measure)(const CUctx_st&)) {
  int64_t sum = 0;
  for (const auto& [device, context] : state().contexts) sum += static_cast<int64_t>(measure(*context));
  return sum;
}
size_t bytes_of(const std::map<std::byte*, size_t>& pieces) {
  size_t sum = 0;
  for (const auto& [address, num_bytes] : pieces) sum += num_bytes;
  return sum;
}

struct Count {
  const char* name;
  bool is_object;
  int64_t (*read)();
};
constexpr Count kCounts[] = {
    {"contexts", true, [] { return static_cast<int64_t>(state().contexts.size()); }},
    {"modules", true, [] { return static_cast<int64_t>(state().modules.size()); }},
    {"streams", true, [] { return static_cast<int64_t>(state().streams.size()); }},
    {"events", true, [] { return static_cast<int64_t>(state().events.size()); }},
    {"graphs", true, [] { return static_cast<int64_t>(state().graphs.size()); }},
    {"graph_execs", true, [] { return static_cast<int64_t>(state().graph_execs.size()); }},
    {"allocations", true,
     [] { return sum_of([](const CUctx_st& each) { return each.allocations.size(); }); }},
    {"pinned_allocations", true,
     [] { return sum_of([](const CUctx_st& each) { return each.pinned.size(); }); }},
    {"allocated_bytes", false,
     [] { return sum_of([](const CUctx_st& each) { return each.allocated_bytes; }); }},
    {"pinned_bytes", false,
     [] { return sum_of([](const CUctx_st& each) { return bytes_of(each.pinned); }); }},
    {"launches", false, [] { return state().num_launches; }},
    {"refused", false, [] { return state().num_refused; }},
};

}  // namespace

State& state() {
  alignas(State) static std::byte memory[sizeof(State)];
  static State* const instance = [] {
    State* made = std::construct_at(reinterpret_cast<State*>(memory));
    made->settings = settings_of_environment();
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

void State::destroy_context(CUdevice device) {
  CUctx_st* context = contexts.at(device).get();
  for (const auto& [address, num_bytes] : context->allocations) memory.free(address);
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
  if (const CUresult planned = take_planned_failure(function); planned != CUDA_SUCCESS) {
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
  int64_t num_objects = 0;
  for (const fake::Count& each : fake::kCounts) {
    if (std::string(each.name) == name) return each.read();
    if (each.is_object) num_objects += each.read();
  }
  return std::string(name) == "objects" ? num_objects : -1;
}

AUTOGLM_EXPORTED void autoglm_fake_cuda_reset() {
  fake::State& state = fake::state();
  const std::lock_guard lock(state.mutex);
  state.settings = fake::settings_of_environment();
  state.failures.clear();
  state.fault_text.clear();
  state.num_launches = 0;
  state.num_refused = 0;
}
