// The kernel table for avx512_bf16: that of avx512 with products of bf16 weights of its own.
#include "cpu/kernel_table.h"
#include "cpu/matmul_bf16_kernel.h"

namespace autoglm::cpu {
namespace {

// `exact` keeps its activations whole.
void matmul_floats(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                   int64_t last_row) {
  const bool takes_bf16 =
      params.weights.format.layout == ComputeLayout::bf16 && params.weights.precision == Precision::fast;
  const auto matmul = takes_bf16 ? matmul_bf16 : kernels_avx512()->matmul_float;
  matmul(params, first_panel, last_panel, first_row, last_row);
}

KernelTable make_table() {
  KernelTable table = *kernels_avx512();
  table.matmul_float = matmul_floats;
  return table;
}

}  // namespace

const KernelTable* kernels_avx512_bf16() {
  static const KernelTable kTable = make_table();
  return &kTable;
}

}  // namespace autoglm::cpu
