#include "ops/norm.h"

#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {

void check_norm(const NormParams& params) {
  const int64_t num_rows = output_rows(params.out, params.quantized);
  const int64_t num_cols = params.in.num_cols;
  check_outputs("norm: output", params.out, params.quantized, num_rows, num_cols);
  if (params.input_rows == nullptr) check_view("norm: input", params.in, num_rows, num_cols);
  check_that(params.in.is_present() && params.weight != nullptr, "norm: an input and a weight");
  check_that(params.bias == nullptr || params.kind == NormKind::layer, "norm: a bias only with a layer norm");
  if (params.residual.is_present()) check_view("norm: residual", params.residual, num_rows, num_cols);
  if (params.input_rows != nullptr) {
    for (int64_t row = 0; row < num_rows; ++row) {
      check_that(params.input_rows[row] >= 0 && params.input_rows[row] < params.in.num_rows,
                 "norm: gathered rows within the input");
    }
  }
}

void norm(const Execution& execution, const NormParams& params) {
  check_norm(params);
  for_row_chunks(execution, output_rows(params.out, params.quantized), params.in.num_cols,
                 [params, kernel = execution.kernels().norm](int64_t first, int64_t last) {
                   kernel(params, first, last);
                 });
}

}  // namespace autoglm
