// Embedding lookup. One path for all instruction sets: a row is a few thousand scattered values per token.
#pragma once

#include "base/op_params.h"

namespace autoglm::cpu {

// Rows [first, last) of EmbeddingParams.
void embed_rows(const EmbeddingParams& params, int64_t first, int64_t last);

}  // namespace autoglm::cpu
