// XXH64 with seed 0: a checksum at the speed of memory, against broken disks and torn files, not against
// forgers. Source: the XXH64 section of the xxHash specification (doc/xxhash_spec.md, version 0.2.0).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace autoglm {

class Hash64 {
 public:
  // All but the last piece must be multiples of 32 bytes long.
  void add(std::span<const std::byte> bytes);
  uint64_t value() const;

 private:
  static constexpr size_t kStripe = 32;

  std::array<uint64_t, 4> lanes_ = {0x60ea27eeadc0b5d6, 0xc2b2ae3d27d4eb4f, 0, 0x61c8864e7a143579};
  std::array<std::byte, kStripe> tail_ = {};
  size_t tail_size_ = 0;
  uint64_t num_bytes_ = 0;
};

}  // namespace autoglm
