// A range of memory of its own mapping: zeroed and private, committed page by page when it is first touched;
// or a file's bytes, read-only, which all processes that map the file share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace autoglm {

class MemoryRegion {
 public:
  MemoryRegion() = default;
  // 2 MiB aligned, with huge pages where the system has them: a sequential read of weights is 15 to 20 %
  // faster with them on one thread. On a machine with several memory nodes it lies on all of them in turn.
  // Throws out_of_memory.
  explicit MemoryRegion(int64_t num_bytes);
  // `num_bytes` of an open file from `offset` on, a multiple of the system's page size. Reading behind the
  // file's end, should it shrink, is a SIGBUS. Throws out_of_memory.
  static MemoryRegion map_file(int descriptor, int64_t offset, int64_t num_bytes);
  MemoryRegion(MemoryRegion&& other) noexcept;
  MemoryRegion& operator=(MemoryRegion&& other) noexcept;
  ~MemoryRegion();

  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

  // Gives the system's pages that lie wholly in [offset, offset + num_bytes) back to it; what is read there
  // afterwards is unspecified. No byte may be given back twice.
  void give_back(int64_t offset, int64_t num_bytes);
  // What is left: the size less the pages given back.
  int64_t held_bytes() const { return size_ - given_back_; }

 private:
  void release() noexcept;

  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  int64_t given_back_ = 0;
  void* mapping_ = nullptr;
  size_t mapping_size_ = 0;
};

}  // namespace autoglm
