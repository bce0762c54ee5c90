// The instruction sets a test runs on: all this processor has, and those of x86-64 in emulation that it may
// lack.
#pragma once

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "base/cpu_info.h"
#include "base/packed_matrix.h"
#include "cpu/kernel_table.h"

#ifdef AUTOGLM_HAS_EMULATION
namespace autoglm::cpu {
const KernelTable* kernels_emulated_avx_vnni();
const KernelTable* kernels_emulated_avx512();
const KernelTable* kernels_emulated_avx512_bf16();
}  // namespace autoglm::cpu
#endif

namespace autoglm::test {

struct BackEnd {
  std::string name;
  const cpu::KernelTable* kernels;
  bool rounds_to_bf16 = false;  // the activations of `fast` products with bf16 weights

  // A float activation as a product with these weights sees it.
  double float_input(const PackedMatrix& weights, float value) const {
    const bool is_rounded = rounds_to_bf16 && weights.format.layout == ComputeLayout::bf16 &&
                            weights.precision == Precision::fast;
    if (!is_rounded) return value;
    int exponent = 0;  // to the nearest with eight bits, ties to even
    const double mantissa = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
  }
};

inline void PrintTo(const BackEnd& back_end, std::ostream* out) { *out << back_end.name; }

inline std::vector<BackEnd> back_ends() {
  std::vector<BackEnd> out;
  for (const Isa isa : probe_cpu().supported_isas) {
    out.push_back({std::string(name_of(isa)), cpu::kernels_of(isa), isa == Isa::avx512_bf16});
#ifdef AUTOGLM_HAS_EMULATION
    // All but one instruction of this emulation is that processor's own.
    if (isa == Isa::avx2) out.push_back({"emulated_avx_vnni", cpu::kernels_emulated_avx_vnni()});
#endif
  }
#ifdef AUTOGLM_HAS_EMULATION
  out.push_back({"emulated_avx512", cpu::kernels_emulated_avx512()});
  out.push_back({"emulated_avx512_bf16", cpu::kernels_emulated_avx512_bf16(), true});
#endif
  return out;
}

template <typename Info>
std::string back_end_name(const Info& info) {
  return info.param.name;
}

}  // namespace autoglm::test
