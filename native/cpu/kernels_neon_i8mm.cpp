// The kernel table for neon_i8mm: that of neon with int8 products of its own.
#include "cpu/dot_neon_i8mm.h"
#include "cpu/kernel_table.h"

namespace autoglm::cpu {
namespace {

KernelTable make_table() {
  KernelTable table = *kernels_neon();
  table.matmul_int8 = matmul_int8<NeonI8mmMatmul>;
  return table;
}

}  // namespace

const KernelTable* kernels_neon_i8mm() {
  static const KernelTable kTable = make_table();
  return &kTable;
}

}  // namespace autoglm::cpu
