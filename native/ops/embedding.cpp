#include "ops/embedding.h"

#include "cpu/embedding.h"
#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {
namespace {

void check_ids(const char* what, const int32_t* ids, int64_t count, int64_t limit) {
  check_that(ids != nullptr, what);
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= limit) {
      throw Error(ErrorCode::invalid_parameter, std::string("expected ") + what + " in 0.." +
                                                    std::to_string(limit - 1) + ", got " +
                                                    std::to_string(ids[i]));
    }
  }
}

}  // namespace

void embed(const Execution& execution, const EmbeddingParams& params) {
  check_that(params.table.is_present(), "embedding: a packed table");
  const int64_t num_rows = params.out.num_rows;
  const int64_t num_cols = params.table.k;
  check_view("embedding: output", params.out, num_rows, num_cols);
  check_ids("embedding: token ids", params.ids, num_rows, params.table.n);
  if (params.positions.is_present()) {
    check_equal("embedding: columns of the positions", params.positions.k, num_cols);
    check_ids("embedding: position ids", params.position_ids, num_rows, params.positions.n);
  }
  if (params.types.is_present()) {
    check_equal("embedding: columns of the token types", params.types.k, num_cols);
    check_ids("embedding: token types", params.type_ids, num_rows, params.types.n);
  }
  for_row_chunks(execution, num_rows, num_cols,
                 [params](int64_t first, int64_t last) { cpu::embed_rows(params, first, last); });
}

}  // namespace autoglm
