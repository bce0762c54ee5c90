#include "memory/region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "base/numa.h"

namespace autoglm {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kMaxBytes = int64_t{1} << 46;  // 64 TiB: more than any machine, and no sum of two wraps

Error refusal(int64_t num_bytes) {
  return {ErrorCode::out_of_memory, "cannot reserve " + std::to_string(num_bytes) + " bytes of memory"};
}

}  // namespace

MemoryRegion::MemoryRegion(int64_t num_bytes) {
  if (num_bytes == 0) return;
  if (num_bytes < 0 || num_bytes > kMaxBytes) throw refusal(num_bytes);
  mapping_size_ = static_cast<size_t>(num_bytes) + kHugePage;
  mapping_ = mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw refusal(num_bytes);
  }
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  const uintptr_t aligned = (address + kHugePage - 1) / kHugePage * kHugePage;
  data_ = reinterpret_cast<std::byte*>(aligned);
  size_ = num_bytes;
#ifdef MADV_HUGEPAGE
  // Advice only: a kernel without transparent huge pages says no and the memory works all the same.
  (void)madvise(data_, static_cast<size_t>(num_bytes), MADV_HUGEPAGE);
#endif
  interleave({data_, static_cast<size_t>(num_bytes)}, numa_nodes());
}

MemoryRegion MemoryRegion::map_file(int descriptor, int64_t offset, int64_t num_bytes) {
  MemoryRegion region;
  if (num_bytes == 0) return region;
  if (num_bytes < 0 || num_bytes > kMaxBytes) throw refusal(num_bytes);
  const auto size = static_cast<size_t>(num_bytes);
  void* const mapping = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, offset);
  if (mapping == MAP_FAILED) throw refusal(num_bytes);
  region.mapping_ = mapping;
  region.mapping_size_ = size;
  region.data_ = static_cast<std::byte*>(mapping);
  region.size_ = num_bytes;
  return region;
}

// Not by munmap: somebody else's mapping could then lie where `release` unmaps.
void MemoryRegion::give_back(int64_t offset, int64_t num_bytes) {
  if (offset < 0 || num_bytes < 0 || offset > size_ || num_bytes > size_ - offset) {
    throw Error(ErrorCode::internal, "bytes " + std::to_string(offset) + " + " + std::to_string(num_bytes) +
                                         " are not in a region of " + std::to_string(size_));
  }
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(data_) + static_cast<uintptr_t>(offset);
  const uintptr_t first = (address + page - 1) / page * page;
  const uintptr_t last = (address + static_cast<uintptr_t>(num_bytes)) / page * page;
  if (first >= last) return;
  if (madvise(data_ + (first - reinterpret_cast<uintptr_t>(data_)), last - first, MADV_DONTNEED) != 0) return;
  given_back_ += static_cast<int64_t>(last - first);
}

MemoryRegion::MemoryRegion(MemoryRegion&& other) noexcept { *this = std::move(other); }

MemoryRegion& MemoryRegion::operator=(MemoryRegion&& other) noexcept {
  if (this == &other) return *this;
  release();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  given_back_ = std::exchange(other.given_back_, 0);
  mapping_ = std::exchange(other.mapping_, nullptr);
  mapping_size_ = std::exchange(other.mapping_size_, 0);
  return *this;
}

MemoryRegion::~MemoryRegion() { release(); }

void MemoryRegion::release() noexcept {
  if (mapping_ != nullptr) munmap(mapping_, mapping_size_);
  mapping_ = nullptr;
}

}  // namespace autoglm
