#include "cpu/kernel_table.h"

namespace autoglm::cpu {

const KernelTable* kernels_of(Isa isa) {
  switch (isa) {
    case Isa::plain:
      return kernels_plain();
#if defined(__x86_64__)
    case Isa::avx2:
      return kernels_avx2();
    case Isa::avx_vnni:
      return kernels_avx_vnni();
    case Isa::avx512:
      return kernels_avx512();
    case Isa::avx512_bf16:
      return kernels_avx512_bf16();
#elif defined(__aarch64__)
    case Isa::neon:
      return kernels_neon();
    case Isa::neon_i8mm:
      return kernels_neon_i8mm();
#endif
    default:
      return nullptr;
  }
}

}  // namespace autoglm::cpu
