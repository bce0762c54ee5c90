#include "cuda/gemm/activate.h"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/lora.h"
#include "cuda/gemm/repack_floats.h"

#define AUTOGLM_ENTRIES "gemm/entries.def"
#include "emulator/kernel_registry.inc"
