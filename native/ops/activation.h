// The nonlinearity of the MLP, gated or not, with optional int8 output.
#pragma once

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// Throws invalid_parameter for shapes that do not agree. Gate and up may be column ranges of one product's
// output.
void activate(const Execution& execution, const ActivationParams& params);

}  // namespace autoglm
