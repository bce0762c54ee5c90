#include "cuda/sampling/sampling.h"

#define AUTOGLM_ENTRIES "sampling/entries.def"
#include "emulator/kernel_registry.inc"
