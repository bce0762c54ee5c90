// Compiled without sanitizers: it reads and writes registers of lanes only, and most of a run is spent here.
#include "fragment_products.h"

#include "base/half.h"
#include "fragment_lanes.h"

namespace autoglm::emulator {
namespace {

struct Bf16 {
  using Element = uint16_t;
  using Sum = float;
  using Wide = double;
  static double value(uint16_t bits) { return bf16_to_float(bits); }
};
struct F16 {
  using Element = uint16_t;
  using Sum = float;
  using Wide = double;
  static double value(uint16_t bits) { return half_to_float(bits); }
};
struct S8 {
  using Element = int8_t;
  using Sum = int32_t;
  using Wide = int64_t;
  static int64_t value(int8_t element) { return element; }
};

template <typename Product>
void combine(void* const* lanes) {
  using Wide = typename Product::Wide;
  using Operands = ProductOperands<typename Product::Sum>;
  constexpr int kPerWord = 4 / sizeof(typename Product::Element);
  constexpr int kDepth = 8 * kPerWord;
  Wide rows[16][kDepth];
  Wide cols[kDepth][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto& each = *static_cast<const Operands*>(lanes[lane]);
    typename Product::Element a[4 * kPerWord];
    typename Product::Element b[2 * kPerWord];
    std::memcpy(a, each.a, sizeof(a));
    std::memcpy(b, each.b, sizeof(b));
    for (int i = 0; i < 4 * kPerWord; ++i) {
      const Place at = place_in_a<kPerWord>(lane, i);
      rows[at.row][at.col] = Product::value(a[i]);
    }
    for (int i = 0; i < 2 * kPerWord; ++i) {
      const Place at = place_in_b<kPerWord>(lane, i);
      cols[at.row][at.col] = Product::value(b[i]);
    }
  }
  Wide totals[16][8] = {};
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < kDepth; ++k) {
      for (int col = 0; col < 8; ++col) totals[row][col] += rows[row][k] * cols[k][col];
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    auto* out = static_cast<const Operands*>(lanes[lane])->sum;
    for (int i = 0; i < 4; ++i) {
      const Place at = place_in_sum(lane, i);
      out[i] = static_cast<typename Product::Sum>(out[i] + totals[at.row][at.col]);
    }
  }
}

}  // namespace

void combine_bf16(void* const* lanes) { combine<Bf16>(lanes); }
void combine_f16(void* const* lanes) { combine<F16>(lanes); }
void combine_s8(void* const* lanes) { combine<S8>(lanes); }

}  // namespace autoglm::emulator
