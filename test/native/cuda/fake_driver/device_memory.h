// A fake device's memory: a range of host addresses that is open to the fake driver alone.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>

namespace autoglm::cuda::fake {

inline constexpr unsigned char kPoison = 0xff;  // NaN in every float format, -1 as an index

class DeviceMemoryRange {
 public:
  DeviceMemoryRange();
  ~DeviceMemoryRange();
  DeviceMemoryRange(const DeviceMemoryRange&) = delete;
  DeviceMemoryRange& operator=(const DeviceMemoryRange&) = delete;

  // 512-byte aligned; null when the range is full.
  std::byte* allocate(size_t num_bytes);
  // The size of the allocation that begins here, which is gone now; nothing for other addresses.
  std::optional<size_t> free(std::byte* address);

  bool has_address(const void* address) const;                     // of the range, in use or not
  bool is_allocated(const void* address, size_t num_bytes) const;  // all of it within one allocation
  // Describes the first write beyond an allocation.
  std::optional<std::string> find_overrun() const;

  // The range can be read and written while one of these is alive.
  class Access {
   public:
    explicit Access(DeviceMemoryRange& range);
    ~Access();
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    DeviceMemoryRange& range_;
  };

 private:
  struct Allocation {
    size_t num_bytes;
    size_t end;  // offset behind the guard that follows
  };
  void protect(int protection);

  std::byte* base_ = nullptr;
  size_t num_used_ = 0;  // bytes that were ever part of an allocation
  int num_accesses_ = 0;
  std::map<size_t, Allocation> allocations_;  // by the offset of their first byte
};

}  // namespace autoglm::cuda::fake
