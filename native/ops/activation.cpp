#include "ops/activation.h"

#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {

void activate(const Execution& execution, const ActivationParams& params) {
  const int64_t num_rows = output_rows(params.out, params.quantized);
  const int64_t num_cols = params.up.num_cols;
  check_view("activation: up", params.up, num_rows, num_cols);
  if (params.gate.is_present()) check_view("activation: gate", params.gate, num_rows, num_cols);
  check_outputs("activation: output", params.out, params.quantized, num_rows, num_cols);
  for_row_chunks(execution, num_rows, num_cols,
                 [params, kernel = execution.kernels().activate](int64_t first, int64_t last) {
                   kernel(params, first, last);
                 });
}

}  // namespace autoglm
