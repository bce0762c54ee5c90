// Embedding lookup from a packed matrix, so that a tied head and embedding are stored once.
#pragma once

#include "base/op_params.h"
#include "ops/execution.h"

namespace autoglm {

// out[r] = scale * table[ids[r]] + positions[position_ids[r]] + types[type_ids[r]]. Throws invalid_parameter
// for shapes that do not agree and ids that are out of range.
void embed(const Execution& execution, const EmbeddingParams& params);

}  // namespace autoglm
