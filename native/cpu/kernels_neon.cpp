// The kernel table for neon. All its code is in templates over Neon, whose internal linkage keeps this file's
// instruction set out of the rest of the program.
#include "cpu/activation_kernel.h"
#include "cpu/attention_kernel.h"
#include "cpu/combine_kernel.h"
#include "cpu/dot_neon.h"
#include "cpu/kernel_table.h"
#include "cpu/kv_append_kernel.h"
#include "cpu/matmul_float_kernel.h"
#include "cpu/matmul_int8_kernel.h"
#include "cpu/norm_kernel.h"
#include "cpu/quantize_kernel.h"
#include "cpu/simd_neon.h"

namespace autoglm::cpu {
namespace {

constexpr KernelTable kTable = {
    .norm = norm_rows<Neon>,
    .quantize = quantize_rows<Neon>,
    .activate = activate<Neon>,
    .matmul_int8 = matmul_int8<NeonMatmul>,
    .matmul_float = matmul_float<NeonMatmul>,
    .append_kv = append_kv<Neon>,
    .attend = attend<Neon>,
    .finish_attention = finish_attention<Neon>,
    .combine = combine_rows<Neon>,
};

}  // namespace

const KernelTable* kernels_neon() { return &kTable; }

}  // namespace autoglm::cpu
