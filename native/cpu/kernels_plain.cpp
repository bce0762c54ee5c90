// The kernel table for plain. All its code is in templates over Plain, whose internal linkage keeps this
// file's instruction set out of the rest of the program.
#include "cpu/activation_kernel.h"
#include "cpu/attention_kernel.h"
#include "cpu/combine_kernel.h"
#include "cpu/dot_plain.h"
#include "cpu/kernel_table.h"
#include "cpu/kv_append_kernel.h"
#include "cpu/matmul_float_kernel.h"
#include "cpu/matmul_int8_kernel.h"
#include "cpu/norm_kernel.h"
#include "cpu/quantize_kernel.h"
#include "cpu/simd_plain.h"

namespace autoglm::cpu {
namespace {

constexpr KernelTable kTable = {
    .norm = norm_rows<Plain>,
    .quantize = quantize_rows<Plain>,
    .activate = activate<Plain>,
    .matmul_int8 = matmul_int8<PlainMatmul>,
    .matmul_float = matmul_float<PlainMatmul>,
    .append_kv = append_kv<Plain>,
    .attend = attend<Plain>,
    .finish_attention = finish_attention<Plain>,
    .combine = combine_rows<Plain>,
};

}  // namespace

const KernelTable* kernels_plain() { return &kTable; }

}  // namespace autoglm::cpu
