#include "cuda/attention/attention.h"

#define AUTOGLM_ENTRIES "attention/planted_entries.def"
#include "emulator/kernel_registry.inc"
