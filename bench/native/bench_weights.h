// A matrix of some stored format with codes that mean nothing, packed as the engine packs it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "quant/packed_matrix.h"
#include "quant/repack.h"

namespace autoglm {

class Buffer {
 public:
  explicit Buffer(int64_t size)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(64, (size + 63) / 64 * 64))) {
    uint32_t state = 1;
    for (int64_t i = 0; i < size; i += 4) {
      state = state * 1664525 + 1013904223;
      const uint32_t word = (state & 0x07ff07ff) | 0x18001800;  // small as halves and as bf16, none subnormal
      std::copy_n(reinterpret_cast<const std::byte*>(&word), std::min<int64_t>(4, size - i),
                  memory_.get() + i);
    }
    bytes = {memory_.get(), static_cast<size_t>(size)};
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;

 public:
  std::span<std::byte> bytes;
};

struct Weights {
  Weights(StoredFormat format, int64_t n, int64_t k)
      : stored(n * k / info_of(format).elements_per_block * info_of(format).bytes_per_block),
        packed(packed_matrix_bytes(choose_packed_format(format, Precision::fast), n, k)),
        matrix(make_packed_matrix(choose_packed_format(format, Precision::fast), Precision::fast, n, k,
                                  packed.bytes)),
        source{.format = format, .bytes = stored.bytes, .num_rows = n, .num_cols = k} {}

  Buffer stored;
  Buffer packed;
  PackedMatrix matrix;
  StoredRows source;
};

}  // namespace autoglm
