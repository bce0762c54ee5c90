// The kernel table for avx2. All its code is in templates over Avx2, whose internal linkage keeps this file's
// instruction set out of the rest of the program.
#include "cpu/activation_kernel.h"
#include "cpu/attention_kernel.h"
#include "cpu/combine_kernel.h"
#include "cpu/dot_avx2.h"
#include "cpu/kernel_table.h"
#include "cpu/kv_append_kernel.h"
#include "cpu/matmul_float_kernel.h"
#include "cpu/matmul_int8_kernel.h"
#include "cpu/norm_kernel.h"
#include "cpu/quantize_kernel.h"
#include "cpu/simd_avx2.h"

namespace autoglm::cpu {
namespace {

constexpr KernelTable kTable = {
    .norm = norm_rows<Avx2>,
    .quantize = quantize_rows<Avx2>,
    .activate = activate<Avx2>,
    .matmul_int8 = matmul_int8<Avx2Matmul>,
    .matmul_float = matmul_float<Avx2Matmul>,
    .append_kv = append_kv<Avx2>,
    .attend = attend<Avx2>,
    .finish_attention = finish_attention<Avx2>,
    .combine = combine_rows<Avx2>,
};

}  // namespace

const KernelTable* kernels_avx2() { return &kTable; }

}  // namespace autoglm::cpu
