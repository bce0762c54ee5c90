#include "cpu/kernel_table.h"

namespace autoglm::cpu {

const KernelTable* kernels_of(Isa isa) {
  switch (isa) {
    case Isa::plain:
      return kernels_plain();
#if defined(__x86_64__)
    case Isa::avx2:
      return kernels_avx2();
    case Isa::avx512:
      return kernels_avx512();
#else
    case Isa::avx2:
    case Isa::avx512:
      return nullptr;
#endif
  }
  return nullptr;
}

}  // namespace autoglm::cpu
