#include "cuda/experts/combine.h"
#include "cuda/experts/expert_pairs.h"
#include "cuda/experts/route.h"
#include "cuda/experts/route_few.h"

#define AUTOGLM_ENTRIES "experts/planted_entries.def"
#include "emulator/kernel_registry.inc"
