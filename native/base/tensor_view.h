// A borrowed matrix in row-major order. The owner outlives every view; a view with null data stands for
// "absent".
#pragma once

#include <cstdint>
#include <type_traits>

namespace autoglm {

template <typename T>
struct TensorView {
  T* data = nullptr;
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  int64_t row_stride = 0;  // elements from one row to the next, >= num_cols

  TensorView() = default;
  TensorView(T* values, int64_t rows, int64_t cols) : TensorView(values, rows, cols, cols) {}
  TensorView(T* values, int64_t rows, int64_t cols, int64_t stride)
      : data(values), num_rows(rows), num_cols(cols), row_stride(stride) {}
  // A view of T is also a view of const T.
  template <typename U>
    requires std::is_same_v<const U, T>
  TensorView(const TensorView<U>& other)
      : data(other.data), num_rows(other.num_rows), num_cols(other.num_cols), row_stride(other.row_stride) {}

  bool is_present() const { return data != nullptr; }
  T* row(int64_t index) const { return data + index * row_stride; }
  // Columns [first, first + count) of every row.
  TensorView columns(int64_t first, int64_t count) const {
    return {data + first, num_rows, count, row_stride};
  }
  // Rows [first, first + count).
  TensorView rows(int64_t first, int64_t count) const { return {row(first), count, num_cols, row_stride}; }
};

}  // namespace autoglm
