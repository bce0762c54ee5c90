#include "ops/combine.h"

#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {

void combine_experts(const Execution& execution, const CombineParams& params) {
  const int64_t num_rows = params.out.num_rows;
  const int64_t num_cols = params.out.num_cols;
  const int64_t num_chosen = params.pairs.num_cols;
  check_view("combine: output", params.out, num_rows, num_cols);
  check_view("combine: pairs", params.pairs, num_rows, num_chosen);
  check_view("combine: weights", params.weights, num_rows, num_chosen);
  check_view("combine: input", params.in, num_rows * num_chosen, num_cols);
  if (params.shared.is_present()) check_view("combine: shared expert", params.shared, num_rows, num_cols);
  if (params.shared_gate.is_present()) {
    check_that(params.shared.is_present(), "combine: a gate only with a shared expert");
    check_view("combine: gate of the shared expert", params.shared_gate, num_rows, 1);
  }
  if (params.residual.is_present()) check_view("combine: residual", params.residual, num_rows, num_cols);
  for_row_chunks(execution, num_rows, num_cols * (num_chosen + 1),
                 [params, kernel = execution.kernels().combine](int64_t first, int64_t last) {
                   kernel(params, first, last);
                 });
}

}  // namespace autoglm
