#include "cuda/pooling/pool_rows.h"

#define AUTOGLM_ENTRIES "pooling/planted_entries.def"
#include "emulator/kernel_registry.inc"
