// Checks that operations share. A failed one is a defect of the caller or a file that contradicts its config,
// so the message names the operation and both values.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/op_params.h"

namespace autoglm {

inline void check_equal(const char* what, int64_t found, int64_t expected) {
  if (found == expected) return;
  throw Error(ErrorCode::invalid_parameter, std::string(what) + ": expected " + std::to_string(expected) +
                                                ", got " + std::to_string(found));
}

inline void check_that(bool condition, const char* expectation) {
  if (!condition) throw Error(ErrorCode::invalid_parameter, std::string("expected ") + expectation);
}

// `what` is "operation: operand".
template <typename T>
void check_view(const char* what, const TensorView<T>& view, int64_t num_rows, int64_t num_cols) {
  if (view.data == nullptr) throw Error(ErrorCode::invalid_parameter, std::string(what) + " is absent");
  check_equal(what, view.num_rows, num_rows);
  check_equal(what, view.num_cols, num_cols);
  if (view.row_stride < num_cols) check_equal(what, view.row_stride, num_cols);
}

inline void check_quantized(const char* what, const QuantizedRows& rows, int64_t num_rows, int64_t num_cols) {
  if (rows.values == nullptr || rows.groups == nullptr) {
    throw Error(ErrorCode::invalid_parameter, std::string(what) + " is absent");
  }
  check_equal(what, rows.num_rows, num_rows);
  check_equal(what, rows.num_cols, num_cols);
  check_equal(what, num_cols % kGroup, 0);
  check_that(rows.row_stride >= num_cols && rows.row_stride % kGroup == 0,
             "int8 activations: rows a multiple of 32 apart");
}

inline void check_written(const char* what, const QuantizedRows& rows, int64_t num_rows, int64_t num_cols) {
  check_quantized(what, rows, num_rows, num_cols);
  check_equal(what, rows.row_stride, num_cols);
}

// Checks the outputs of an operation that may write floats, int8 or both.
inline void check_outputs(const char* what, const TensorView<float>& out, const QuantizedRows& quantized,
                          int64_t num_rows, int64_t num_cols) {
  if (!out.is_present() && !quantized.is_present()) {
    throw Error(ErrorCode::invalid_parameter, std::string(what) + " is absent");
  }
  if (out.is_present()) check_view(what, out, num_rows, num_cols);
  if (quantized.is_present()) check_written(what, quantized, num_rows, num_cols);
}

// What pages of each kind ask of their dims.
inline void check_page_dims(const char* what, const KvPages& kv) {
  check_that(kv.dtype != KvDtype::fp8, "pages of bf16, int8 or f32 on the processor");
  check_that(kv.dtype != KvDtype::int8 || (kv.head_dim >= 4 && !kv.is_latent),
             "int8 pages: a head dim of at least 4, and no latents");
  if (!kv.is_latent) return;
  check_equal(what, kv.head_dim % 16, 0);
  check_equal(what, kv.value_dim % 16, 0);
  check_that(kv.value_dim <= kv.head_dim, "latent pages: a value within the key");
}

inline int64_t output_rows(const TensorView<float>& out, const QuantizedRows& quantized) {
  return out.is_present() ? out.num_rows : quantized.num_rows;
}

}  // namespace autoglm
