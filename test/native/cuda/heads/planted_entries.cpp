#include "cuda/heads/heads_product.h"

#define AUTOGLM_ENTRIES "heads/planted_entries.def"
#include "emulator/kernel_registry.inc"
