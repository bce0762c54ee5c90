// Scratch memory of a step: buffers as large as the largest step needs, viewed at the size of the current
// one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/op_params.h"

namespace autoglm {

// What a product reads: floats, int8, or both, as the packed weights demand.
struct Activations {
  TensorView<float> values;
  QuantizedRows quantized;
};

// Hands out 64-byte aligned parts of a region, or, without memory, only adds up their sizes.
class ScratchAllocator {
 public:
  explicit ScratchAllocator(std::byte* memory) : next_(memory) {}
  std::span<std::byte> take(int64_t num_bytes);
  int64_t num_bytes() const { return num_bytes_; }

 private:
  std::byte* next_;
  int64_t num_bytes_ = 0;
};

class FloatBuffer {
 public:
  void reserve(ScratchAllocator& allocator, int64_t num_rows, int64_t num_cols);
  TensorView<float> view(int64_t num_rows, int64_t num_cols) const {
    return {values_.data(), num_rows, num_cols};
  }
  std::span<float> values() const { return values_; }

 private:
  std::span<float> values_;
};

class ActivationBuffer {
 public:
  // The most columns of each kind; 0 when nobody reads that kind.
  void reserve(ScratchAllocator& allocator, int64_t num_rows, int64_t float_cols, int64_t int8_cols);
  // The parts that are not asked for are absent.
  Activations view(int64_t num_rows, int64_t num_cols, bool needs_float, bool needs_int8) const;

 private:
  FloatBuffer values_;
  std::span<std::byte> quantized_;
};

}  // namespace autoglm
