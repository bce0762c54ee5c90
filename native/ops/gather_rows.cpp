#include "ops/gather_rows.h"

#include <cstring>

#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {
namespace {

void check_rows(std::span<const int32_t> rows, int64_t num_rows) {
  for (const int32_t row : rows) check_that(row >= 0 && row < num_rows, "gather: rows that exist");
}

}  // namespace

void gather_rows(const Execution& execution, std::span<const int32_t> rows, TensorView<const float> in,
                 TensorView<float> out) {
  check_view("gather: input", in, in.num_rows, out.num_cols);
  check_view("gather: output", out, static_cast<int64_t>(rows.size()), out.num_cols);
  check_rows(rows, in.num_rows);
  for_row_chunks(execution, out.num_rows, out.num_cols, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      std::memcpy(out.row(i), in.row(rows[static_cast<size_t>(i)]),
                  static_cast<size_t>(out.num_cols) * sizeof(float));
    }
  });
}

void gather_rows(const Execution& execution, std::span<const int32_t> rows, const QuantizedRows& in,
                 const QuantizedRows& out) {
  check_quantized("gather: input", in, in.num_rows, out.num_cols);
  check_written("gather: output", out, static_cast<int64_t>(rows.size()), out.num_cols);
  check_rows(rows, in.num_rows);
  const int64_t num_groups = out.num_cols / kGroup;
  for_row_chunks(execution, out.num_rows, out.num_cols, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t row = rows[static_cast<size_t>(i)];
      std::memcpy(out.values + i * out.num_cols, in.values + row * in.row_stride,
                  static_cast<size_t>(out.num_cols));
      std::memcpy(out.groups + i * num_groups, in.groups + row * (in.row_stride / kGroup),
                  static_cast<size_t>(num_groups) * sizeof(ActivationGroup));
    }
  });
}

}  // namespace autoglm
