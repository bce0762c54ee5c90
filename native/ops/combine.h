// The last step of a mixture of experts: the weighted sum of each row's experts.
#pragma once

#include "base/expert_params.h"
#include "ops/execution.h"

namespace autoglm {

// Throws invalid_parameter for shapes that do not agree.
void combine_experts(const Execution& execution, const CombineParams& params);

}  // namespace autoglm
