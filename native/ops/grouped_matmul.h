// Many independent products as one stage: the experts of a step, the heads of latent attention.
#pragma once

#include <span>

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// Each product is what matmul would compute, bit for bit. Outputs may be columns or rows of one buffer but do
// not overlap. Products without rows cost nothing. Throws what matmul throws.
void grouped_matmul(const Execution& execution, std::span<const MatmulParams> products);

}  // namespace autoglm
