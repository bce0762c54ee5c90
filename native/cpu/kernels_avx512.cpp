// The kernel table for avx512. All its code is in templates over Avx512, whose internal linkage keeps this
// file's instruction set out of the rest of the program.
#include "cpu/activation_kernel.h"
#include "cpu/attention_kernel.h"
#include "cpu/combine_kernel.h"
#include "cpu/dot_avx512.h"
#include "cpu/kernel_table.h"
#include "cpu/kv_append_kernel.h"
#include "cpu/matmul_float_kernel.h"
#include "cpu/matmul_int8_kernel.h"
#include "cpu/norm_kernel.h"
#include "cpu/quantize_kernel.h"
#include "cpu/simd_avx512.h"

namespace autoglm::cpu {
namespace {

constexpr KernelTable kTable = {
    .norm = norm_rows<Avx512>,
    .quantize = quantize_rows<Avx512>,
    .activate = activate<Avx512>,
    .matmul_int8 = matmul_int8<Avx512Matmul>,
    .matmul_float = matmul_float<Avx512Matmul>,
    .append_kv = append_kv<Avx512>,
    .attend = attend<Avx512>,
    .finish_attention = finish_attention<Avx512>,
    .combine = combine_rows<Avx512>,
};

}  // namespace

const KernelTable* kernels_avx512() { return &kTable; }

}  // namespace autoglm::cpu
