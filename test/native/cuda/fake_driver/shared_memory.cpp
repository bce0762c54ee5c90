#include "shared_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "device_memory.h"
#include "emulator/sanitizers.h"

namespace autoglm::cuda::fake {
namespace {

constexpr size_t kMaxStaticShared = 48 << 10;
constexpr size_t kAlignment = 128;

SharedMemory* running = nullptr;

}  // namespace

SharedMemory::SharedMemory(size_t dynamic_bytes) : dynamic_bytes_(dynamic_bytes) { running = this; }
SharedMemory::~SharedMemory() { running = nullptr; }
void SharedMemory::Free::operator()(std::byte* memory) const { std::free(memory); }

std::byte* SharedMemory::of_block(size_t num_bytes) {
  const emulator::Untracked untracked;  // which thread of a block comes first is no race of the kernel's
  const size_t wanted_dynamic = num_bytes > kMaxStaticShared ? num_bytes : 0;
  if (dynamic_bytes_ != wanted_dynamic) {
    emulator::fail("shared storage of " + std::to_string(num_bytes) + " bytes, launched with " +
                   std::to_string(dynamic_bytes_) + " dynamic ones");
  }
  const emulator::Grid block = emulator::position().block;
  const bool is_same = block.x == block_.x && block.y == block_.y && block.z == block_.z;
  if (memory_ != nullptr && is_same && num_bytes == num_bytes_) return memory_.get();
  if (memory_ != nullptr && is_same) emulator::fail("shared storage of two sizes in one block");
  memory_.reset();  // of exactly this size, so that AddressSanitizer sees the first byte beyond
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, num_bytes) != 0) throw std::bad_alloc();
  std::memset(memory, kPoison, num_bytes);
  memory_.reset(static_cast<std::byte*>(memory));
  num_bytes_ = num_bytes;
  block_ = block;
  return memory_.get();
}

}  // namespace autoglm::cuda::fake

extern "C" std::byte* __wrap__ZN7autoglm8emulator13shared_memoryEm(size_t num_bytes) {
  return autoglm::cuda::fake::running->of_block(num_bytes);
}
