// The kernel table for avx_vnni: that of avx2 with int8 products of its own.
#include "cpu/dot_avx_vnni.h"
#include "cpu/kernel_table.h"

namespace autoglm::cpu {
namespace {

KernelTable make_table() {
  KernelTable table = *kernels_avx2();
  table.matmul_int8 = matmul_int8<AvxVnniMatmul>;
  return table;
}

}  // namespace

const KernelTable* kernels_avx_vnni() {
  static const KernelTable kTable = make_table();
  return &kTable;
}

}  // namespace autoglm::cpu
