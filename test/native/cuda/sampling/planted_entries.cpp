#include "cuda/sampling/sampling.h"

#define AUTOGLM_ENTRIES "sampling/planted_entries.def"
#include "emulator/kernel_registry.inc"
