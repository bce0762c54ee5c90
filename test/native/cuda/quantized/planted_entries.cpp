#include "cuda/product.h"

#define AUTOGLM_ENTRIES "quantized/planted_entries.def"
#include "emulator/kernel_registry.inc"
