// The instruction sets a test runs on: all this processor has, and AVX-512 in emulation.
#pragma once

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "base/cpu_info.h"
#include "cpu/kernel_table.h"

#ifdef AUTOGLM_HAS_EMULATED_AVX512
namespace autoglm::cpu {
const KernelTable* kernels_emulated_avx512();
}
#endif

namespace autoglm::test {

struct BackEnd {
  std::string name;
  const cpu::KernelTable* kernels;
};

inline void PrintTo(const BackEnd& back_end, std::ostream* out) { *out << back_end.name; }

inline std::vector<BackEnd> back_ends() {
  std::vector<BackEnd> out;
  for (const Isa isa : probe_cpu().supported_isas) {
    out.push_back({std::string(name_of(isa)), cpu::kernels_of(isa)});
  }
#ifdef AUTOGLM_HAS_EMULATED_AVX512
  out.push_back({"emulated_avx512", cpu::kernels_emulated_avx512()});
#endif
  return out;
}

template <typename Info>
std::string back_end_name(const Info& info) {
  return info.param.name;
}

}  // namespace autoglm::test
