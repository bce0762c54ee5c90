#include "cuda/heads/copy_heads.h"
#include "cuda/heads/heads_product.h"

#define AUTOGLM_ENTRIES "heads/entries.def"
#include "emulator/kernel_registry.inc"
