#include "cuda/rows/embedding.h"
#include "cuda/rows/kv_append.h"
#include "cuda/rows/norm.h"
#include "cuda/rows/rope_angles.h"

#define AUTOGLM_ENTRIES "rows/entries.def"
#include "emulator/kernel_registry.inc"
