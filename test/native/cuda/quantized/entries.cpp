#include "cuda/product.h"
#include "cuda/quantized/quantized_embedding.h"
#include "cuda/quantized/repack.h"

#define AUTOGLM_ENTRIES "quantized/entries.def"
#include "emulator/kernel_registry.inc"
