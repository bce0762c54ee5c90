#include "host_memory.h"

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

namespace autoglm::gpu_check {
namespace {

// Stands before each allocation, in one list of all of them; keeps the alignment of operator new.
struct alignas(16) Header {
  Header* previous;
  Header* next;
  size_t num_bytes;

  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
};

// Ready before any constructor allocates, and never destroyed.
constinit Header first{nullptr, nullptr, 0};
constinit std::mutex mutex;
// All that was ever allocated lies between them: data that is no address costs no search.
constinit uintptr_t lowest = UINTPTR_MAX;
constinit uintptr_t highest = 0;

void* allocate(size_t num_bytes) {
  auto* header = static_cast<Header*>(std::malloc(sizeof(Header) + num_bytes));
  if (header == nullptr) throw std::bad_alloc();
  const std::lock_guard lock(mutex);
  *header = {&first, first.next, num_bytes};
  if (first.next != nullptr) first.next->previous = header;
  first.next = header;
  const auto address = reinterpret_cast<uintptr_t>(header->data());
  lowest = std::min(lowest, address);
  highest = std::max(highest, address + num_bytes);
  return header->data();
}

void release(void* data) {
  if (data == nullptr) return;
  Header* header = static_cast<Header*>(data) - 1;
  {
    const std::lock_guard lock(mutex);
    header->previous->next = header->next;
    if (header->next != nullptr) header->next->previous = header->previous;
  }
  std::free(header);
}

uintptr_t end_of_stack() {
  pthread_attr_t attributes;
  void* lowest = nullptr;
  size_t size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 0;
  pthread_attr_getstack(&attributes, &lowest, &size);
  pthread_attr_destroy(&attributes);
  return reinterpret_cast<uintptr_t>(lowest) + size;
}

}  // namespace

std::optional<std::span<std::byte>> find_allocation(const void* address) {
  const auto* wanted = static_cast<const std::byte*>(address);
  const std::lock_guard lock(mutex);
  const auto number = reinterpret_cast<uintptr_t>(address);
  if (number < lowest || number >= highest) return std::nullopt;
  for (Header* each = first.next; each != nullptr; each = each->next) {
    const std::byte* data = each->data();
    if (wanted >= data && wanted < data + each->num_bytes) return std::span(each->data(), each->num_bytes);
  }
  return std::nullopt;
}

bool is_on_stack(const void* address) {
  thread_local const uintptr_t end = end_of_stack();
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  return wanted > reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) && wanted < end;
}

}  // namespace autoglm::gpu_check

// The other forms of new and delete call these; over-aligned ones stay the library's and are not found.
void* operator new(size_t num_bytes) { return autoglm::gpu_check::allocate(num_bytes); }
void operator delete(void* data) noexcept { autoglm::gpu_check::release(data); }
void operator delete(void* data, size_t) noexcept { autoglm::gpu_check::release(data); }
