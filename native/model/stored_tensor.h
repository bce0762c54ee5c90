// One tensor in its files: its rows are read by number, wherever its slices lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/coded_tensor.h"
#include "model/weight_file.h"
#include "model/weight_layout.h"

namespace autoglm {

class StoredTensor {
 public:
  // `num_cols` is k of a matrix, 1 for a vector. Throws invalid_model_file unless the slices lie inside their
  // files and hold whole rows, as many as the shape and the row order ask for.
  StoredTensor(const NamedSource& named, int64_t num_cols, std::span<const WeightFile> files);

  const WeightSource& source() const { return *named_.source; }
  int64_t num_rows() const { return named_.num_rows; }  // of the packed matrix
  int64_t num_stored_rows() const { return num_stored_rows_; }
  int64_t row_bytes() const { return row_bytes_; }
  int64_t num_bytes() const { return num_bytes_; }
  // The stored rows that rows [first, last) are made of: {first, last}, never empty, because pack_panels
  // wants to see a row of every source of a stacked matrix.
  std::pair<int64_t, int64_t> stored_range(int64_t first, int64_t last) const;
  // Null unless the scales lie in tensors of their own; then rows are decoded, not read.
  const CodedTensor* coded() const { return coded_ ? &*coded_ : nullptr; }
  // Reads `bytes.size()` bytes from byte `offset` of the slices laid end to end.
  void read(int64_t offset, std::span<std::byte> bytes) const;

 private:
  NamedSource named_;
  std::span<const WeightFile> files_;
  int64_t row_bytes_ = 0;
  int64_t num_stored_rows_ = 0;
  int64_t num_bytes_ = 0;
  std::optional<CodedTensor> coded_;
};

}  // namespace autoglm
