#include "probe_kernels.h"

#include "cuda/device/ptx.cuh"
#include "emulator/emulated_kernels.h"

namespace autoglm::cuda {
namespace {

template <size_t kNumBytes>
struct Storage {
  float values[kNumBytes / sizeof(float)];
};

void probe_scale(const ProbeArgs& args) {
  if (thread_x() < args.count) args.out[thread_x()] = args.factor * args.in[thread_x()];
}

template <size_t kNumBytes>
void probe_shared(const ProbeArgs& args) {
  auto& storage = shared_storage<Storage<kNumBytes>>();
  if (thread_x() < args.count) storage.values[thread_x()] = args.factor * args.in[thread_x()];
  sync_threads();
  if (thread_x() < args.count) args.out[thread_x()] = storage.values[args.count - 1 - thread_x()];
}

void probe_overrun(const ProbeArgs& args) {
  if (thread_x() == 0) args.out[args.count] = 0;
}

void probe_deadlock(const ProbeArgs&) {
  if (thread_x() != 0) sync_threads();
}

template <auto kKernel>
emulator::EmulatedKernel entry(const char* name) {
  return {name, sizeof(ProbeArgs),
          [](const void* argument) { kKernel(*static_cast<const ProbeArgs*>(argument)); }};
}

const emulator::KernelRegistration register_scale(entry<&probe_scale>("probe_scale"));
const emulator::KernelRegistration register_dynamic(
    entry<&probe_shared<kProbeDynamicBytes>>("probe_dynamic"));
const emulator::KernelRegistration register_static(entry<&probe_shared<kProbeStaticBytes>>("probe_static"));
const emulator::KernelRegistration register_overrun(entry<&probe_overrun>("probe_overrun"));
const emulator::KernelRegistration register_deadlock(entry<&probe_deadlock>("probe_deadlock"));

}  // namespace
}  // namespace autoglm::cuda
