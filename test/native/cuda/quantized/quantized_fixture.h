// A product with random quantized weights, placed by the index maths of weight_order.h, and its sums in
// float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/quantized/quantized.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {

struct Format {
  cuda::DeviceLayout layout = cuda::DeviceLayout::w4;
  int group = 32;
  bool has_mins = false;
  bool has_factors = false;
};

// One matrix, or one for each expert. Padding is zero, as the repack kernels leave it.
struct QuantizedWeights {
  Format format;
  int32_t n = 0;
  int32_t k = 0;
  int32_t num_experts = 1;
  std::vector<uint32_t> codes = {};
  std::vector<uint16_t> scales = {};
  std::vector<uint16_t> mins = {};
  std::vector<float> factors = {};
  std::vector<double> values = {};  // [num_experts][n][k]

  int64_t code_words() const { return cuda::weights_bytes(format.layout, n, k) / 4; }
  int64_t num_scales() const { return cuda::scales_bytes(n, k, format.group) / 2; }
  cuda::DeviceMatrix matrix() const {
    return {.weights = codes.data(),
            .scales = scales.data(),
            .mins = format.has_mins ? mins.data() : nullptr,
            .row_factors = format.has_factors ? factors.data() : nullptr,
            .n = n,
            .k = k,
            .group = format.group,
            .layout = format.layout};
  }
};

// Codes at both ends of their range, and scales that are zero or negative, are as frequent as any.
inline int64_t random_code(Random& random, cuda::DeviceLayout layout) {
  const int64_t codes = layout == cuda::DeviceLayout::w4 ? 16 : 256;
  const int64_t kind = random.below(8);
  return kind == 0 ? 0 : kind == 1 ? codes - 1 : random.below(codes);
}

inline QuantizedWeights random_weights(Random& random, const Format& format, int32_t n, int32_t k,
                                       int32_t num_experts = 1) {
  QuantizedWeights w{.format = format, .n = n, .k = k, .num_experts = num_experts};
  w.codes.assign(num_experts * w.code_words(), 0);
  w.scales.assign(num_experts * w.num_scales(), 0);
  w.mins.assign(num_experts * w.num_scales(), 0);
  w.factors.assign(num_experts * cuda::num_panels(n), 0);
  for (float& each : w.factors) each = std::ldexp(1.0f, static_cast<int>(random.below(5)) - 2);
  const int bits = cuda::code_bits(format.layout);
  const double zero = format.layout == cuda::DeviceLayout::w4 && !format.has_mins ? 8 : 0;
  w.values.reserve(int64_t{num_experts} * n * k);
  for (int32_t expert = 0; expert < num_experts; ++expert) {
    for (int64_t row = 0; row < n; ++row) {
      double scale = 0;
      double min = 0;
      for (int64_t col = 0; col < k; ++col) {
        if (col % format.group == 0) {
          const int64_t at = expert * w.num_scales() + cuda::scale_index(k, format.group, row, col);
          w.scales[at] = random.below(8) == 0 ? 0 : float_to_half(random.uniform(-0.1f, 0.1f));
          w.mins[at] = float_to_half(random.uniform(-0.5f, 0.5f));
          scale = half_to_float(w.scales[at]);
          min = format.has_mins ? half_to_float(w.mins[at]) : 0;
        }
        const int64_t code = random_code(random, format.layout);
        const int64_t word = expert * w.code_words() + cuda::slab_offset(bits, k, row, col) / 4;
        const cuda::CodePlace place =
            cuda::code_in_slab(bits, static_cast<int>(row % 32), static_cast<int>(col % cuda::kSlabK));
        w.codes[word + place.word] |= static_cast<uint32_t>(code) << place.bit;
        const double value = bits == 4 ? static_cast<double>(code) : static_cast<int8_t>(code);
        const double factor = format.has_factors ? w.factors[expert * cuda::num_panels(n) + row / 32] : 1;
        w.values.push_back(factor * ((value - zero) * scale + min));
      }
    }
  }
  return w;
}

// Memory of 16-byte alignment, which vectors of small types do not promise.
template <typename T>
class Aligned {
 public:
  Aligned(const std::vector<T>& values, int64_t padding = 0)
      : storage_((values.size() + padding) * sizeof(T) / 16 + 2) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() { return reinterpret_cast<T*>(storage_.data()); }

 private:
  struct alignas(16) Piece {
    uint32_t word[4] = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
  };
  std::vector<Piece> storage_;
};

inline double activated_in_double(Activation activation, double x) {
  if (activation == Activation::silu) return x / (1 + std::exp(-x));
  if (activation == Activation::relu) return x < 0 ? 0 : x;
  if (activation == Activation::gelu_erf) return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

// Scratch as products leave it to each other: zero tickets, any other contents.
inline std::vector<float> poisoned_workspace(size_t num_bytes) {
  std::vector<float> out(num_bytes / 4, NAN);
  std::fill_n(out.begin(), std::min<size_t>(out.size(), cuda::kQuantizedTickets), 0.0f);
  return out;
}
inline bool tickets_are_zero(const std::vector<float>& workspace) {
  const auto count = std::min<int64_t>(static_cast<int64_t>(workspace.size()), cuda::kQuantizedTickets);
  return std::all_of(workspace.begin(), workspace.begin() + count,
                     [](float each) { return std::bit_cast<uint32_t>(each) == 0; });
}

}  // namespace autoglm::test
