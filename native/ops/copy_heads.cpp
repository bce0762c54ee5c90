#include "ops/copy_heads.h"

#include <cstring>

#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {

void copy_heads(const Execution& execution, const CopyHeadsParams& params) {
  const int64_t num_heads = params.num_heads;
  check_that(num_heads > 0 && params.in.num_cols % num_heads == 0 && params.out.num_cols % num_heads == 0,
             "copy of heads: whole heads");
  const int64_t in_cols = params.in.num_cols / num_heads;
  const int64_t out_cols = params.out.num_cols / num_heads;
  check_that(params.first >= 0 && params.count >= 0 && params.first <= in_cols - params.count &&
                 params.count <= out_cols,
             "copy of heads: columns within a head");
  check_view("copy of heads: input", params.in, params.out.num_rows, params.in.num_cols);
  check_view("copy of heads: output", params.out, params.out.num_rows, params.out.num_cols);
  for_row_chunks(execution, params.out.num_rows, num_heads * params.count, [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t head = 0; head < num_heads; ++head) {
        std::memcpy(params.out.row(row) + head * out_cols, params.in.row(row) + head * in_cols + params.first,
                    static_cast<size_t>(params.count) * sizeof(float));
      }
    }
  });
}

}  // namespace autoglm
