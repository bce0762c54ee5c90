#include "cuda/gemm/gemm.h"

#define AUTOGLM_ENTRIES "gemm/planted_entries.def"
#include "emulator/kernel_registry.inc"
