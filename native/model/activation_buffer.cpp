#include "model/activation_buffer.h"

#include "base/checked.h"
#include "ops/quantize_rows.h"

namespace autoglm {
namespace {

constexpr int64_t kAlignment = 64;

}  // namespace

std::span<std::byte> ScratchAllocator::take(int64_t num_bytes) {
  std::byte* const taken = next_;
  const int64_t rounded = checked_round_up(num_bytes, kAlignment, "bytes of scratch memory");
  num_bytes_ = checked_add(num_bytes_, rounded, "bytes of scratch memory");
  if (next_ == nullptr) return {};
  next_ += rounded;
  return {taken, static_cast<size_t>(num_bytes)};
}

void FloatBuffer::reserve(ScratchAllocator& allocator, int64_t num_rows, int64_t num_cols) {
  const int64_t num_values = checked_mul(num_rows, num_cols, "values of scratch memory");
  const auto memory = allocator.take(checked_mul(num_values, sizeof(float), "bytes of scratch memory"));
  values_ = {reinterpret_cast<float*>(memory.data()), memory.size() / sizeof(float)};
}

void ActivationBuffer::reserve(ScratchAllocator& allocator, int64_t num_rows, int64_t float_cols,
                               int64_t int8_cols) {
  if (float_cols > 0) values_.reserve(allocator, num_rows, float_cols);
  if (int8_cols > 0) quantized_ = allocator.take(quantized_rows_bytes(num_rows, int8_cols));
}

Activations ActivationBuffer::view(int64_t num_rows, int64_t num_cols, bool needs_float,
                                   bool needs_int8) const {
  Activations result;
  if (needs_float) result.values = values_.view(num_rows, num_cols);
  if (needs_int8) result.quantized = make_quantized_rows(num_rows, num_cols, quantized_);
  return result;
}

}  // namespace autoglm
