// The bits of a bfloat16, the upper half of a float's, on host and device.
#pragma once

#include <cstdint>

namespace autoglm::cuda {

struct Bf16 {
  uint16_t bits;
};
static_assert(sizeof(Bf16) == 2);

}  // namespace autoglm::cuda
