#include "cuda/attention/attention.h"

#define AUTOGLM_ENTRIES "attention/entries.def"
#include "emulator/kernel_registry.inc"
