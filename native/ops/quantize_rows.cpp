#include "ops/quantize_rows.h"

#include "cpu/kernel_table.h"
#include "ops/check.h"
#include "ops/row_chunks.h"

namespace autoglm {
namespace {

constexpr int64_t kAlignment = 64;

int64_t value_bytes(int64_t num_rows, int64_t num_cols) {
  return checked_round_up(checked_mul(num_rows, num_cols, "int8 activations"), kAlignment,
                          "int8 activations");
}

}  // namespace

int64_t quantized_rows_bytes(int64_t num_rows, int64_t num_cols) {
  check_that(num_rows >= 0 && num_cols >= 0 && num_cols % kGroup == 0,
             "int8 activations: a multiple of 32 columns");
  const int64_t values = value_bytes(num_rows, num_cols);
  const int64_t group_bytes = values / kGroup * static_cast<int64_t>(sizeof(ActivationGroup));
  return checked_add(values, checked_round_up(group_bytes, kAlignment, "int8 activations"),
                     "int8 activations");
}

QuantizedRows make_quantized_rows(int64_t num_rows, int64_t num_cols, std::span<std::byte> memory) {
  check_that(static_cast<int64_t>(memory.size()) >= quantized_rows_bytes(num_rows, num_cols) &&
                 reinterpret_cast<uintptr_t>(memory.data()) % kAlignment == 0,
             "int8 activations: enough memory, aligned to 64 bytes");
  return {reinterpret_cast<int8_t*>(memory.data()),
          reinterpret_cast<ActivationGroup*>(memory.data() + value_bytes(num_rows, num_cols)), num_rows,
          num_cols, num_cols};
}

void quantize_rows(const Execution& execution, TensorView<const float> in, const QuantizedRows& out) {
  check_written("quantize: output", out, in.num_rows, in.num_cols);
  check_view("quantize: input", in, out.num_rows, out.num_cols);
  for_row_chunks(execution, in.num_rows, in.num_cols,
                 [in, out, kernel = execution.kernels().quantize](int64_t first, int64_t last) {
                   kernel(in, out, first, last);
                 });
}

}  // namespace autoglm
