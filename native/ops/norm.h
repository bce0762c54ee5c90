// RMS and layer norm with optional row gather, residual and int8 output.
#pragma once

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// Throws invalid_parameter for shapes that do not agree.
void norm(const Execution& execution, const NormParams& params);

// What norm checks, for operations that run its kernel in stages of their own.
void check_norm(const NormParams& params);

}  // namespace autoglm
