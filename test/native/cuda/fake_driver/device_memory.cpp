#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

namespace autoglm::cuda::fake {
namespace {

constexpr size_t kRangeBytes = size_t{64} << 30;
constexpr size_t kGuardBytes = 512;
constexpr size_t kAlignment = 512;
constexpr size_t kMaxPoisoned = size_t{64} << 20;  // more would commit memory that no test uses
constexpr size_t kPageBytes = 4096;

constexpr size_t round_up(size_t count, size_t size) { return (count + size - 1) / size * size; }

}  // namespace

DeviceMemoryRange::DeviceMemoryRange() {
  void* memory = mmap(nullptr, kRangeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<std::byte*>(memory);
}

DeviceMemoryRange::~DeviceMemoryRange() { munmap(base_, kRangeBytes); }

std::byte* DeviceMemoryRange::allocate(size_t num_bytes) {
  if (num_bytes > kRangeBytes) return nullptr;
  const size_t needed = kGuardBytes + round_up(num_bytes, kAlignment) + kGuardBytes;
  size_t begin = 0;  // of the first gap that is wide enough
  for (const auto& [offset, each] : allocations_) {
    if (offset - kGuardBytes >= begin + needed) break;
    begin = each.end;
  }
  if (begin + needed > kRangeBytes) return nullptr;
  const size_t offset = begin + kGuardBytes;
  allocations_[offset] = {num_bytes, begin + needed};
  num_used_ = std::max(num_used_, round_up(begin + needed, kPageBytes));
  const Access access(*this);
  const bool is_small = num_bytes <= kMaxPoisoned;
  std::memset(base_ + begin, kPoison, is_small ? needed : kGuardBytes);
  if (!is_small) std::memset(base_ + offset + num_bytes, kPoison, begin + needed - offset - num_bytes);
  return base_ + offset;
}

std::optional<size_t> DeviceMemoryRange::free(std::byte* address) {
  if (!has_address(address)) return std::nullopt;
  const auto found = allocations_.find(static_cast<size_t>(address - base_));
  if (found == allocations_.end()) return std::nullopt;
  const size_t num_bytes = found->second.num_bytes;
  const size_t first_page = round_up(found->first, kPageBytes);
  const size_t end_page = found->second.end / kPageBytes * kPageBytes;
  if (first_page < end_page) madvise(base_ + first_page, end_page - first_page, MADV_DONTNEED);
  allocations_.erase(found);
  return num_bytes;
}

bool DeviceMemoryRange::has_address(const void* address) const {
  const auto* byte = static_cast<const std::byte*>(address);
  return byte >= base_ && byte < base_ + kRangeBytes;
}

bool DeviceMemoryRange::is_allocated(const void* address, size_t num_bytes) const {
  if (!has_address(address)) return false;
  const auto offset = static_cast<size_t>(static_cast<const std::byte*>(address) - base_);
  auto found = allocations_.upper_bound(offset);
  if (found == allocations_.begin()) return false;
  --found;
  return offset - found->first <= found->second.num_bytes &&
         num_bytes <= found->second.num_bytes - (offset - found->first);
}

std::optional<std::string> DeviceMemoryRange::find_overrun() const {
  const auto is_poison = [](std::byte each) { return each == std::byte{kPoison}; };
  for (const auto& [offset, each] : allocations_) {
    const std::byte* begin = base_ + offset;
    const std::byte* end = begin + each.num_bytes;
    const std::byte* before = std::find_if_not(begin - kGuardBytes, begin, is_poison);
    const std::byte* behind =
        std::find_if_not(end, static_cast<const std::byte*>(base_ + each.end), is_poison);
    const std::string allocation = " an allocation of " + std::to_string(each.num_bytes) + " bytes";
    if (before != begin) return std::to_string(begin - before) + " bytes before" + allocation;
    if (behind != base_ + each.end) return std::to_string(behind - end) + " bytes behind" + allocation;
  }
  return std::nullopt;
}

void DeviceMemoryRange::protect(int protection) {
  if (num_used_ > 0 && mprotect(base_, num_used_, protection) != 0) throw std::bad_alloc();
}

DeviceMemoryRange::Access::Access(DeviceMemoryRange& range) : range_(range) {
  if (range_.num_accesses_++ == 0) range_.protect(PROT_READ | PROT_WRITE);
}
DeviceMemoryRange::Access::~Access() {
  if (--range_.num_accesses_ == 0) range_.protect(PROT_NONE);
}

}  // namespace autoglm::cuda::fake
