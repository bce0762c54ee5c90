// A quantized matrix whose codes, scales and zeros are tensors of their own: read by rows, whatever their
// order in the file, and decoded for a packed format.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/weight_file.h"
#include "model/weight_layout.h"
#include "quant/coded_rows.h"

namespace autoglm {

// Rows on their way to a packed matrix: groups for quantized layouts, floats for f32.
struct DecodedRows {
  std::vector<GroupCodes> groups;
  std::vector<float> values;
};

class CodedTensor {
 public:
  // Checks every shape and bound, and reads and checks the group of each column. Throws invalid_model_file.
  CodedTensor(const NamedSource& named, int64_t num_cols, std::span<const WeightFile> files);

  int64_t num_bytes() const { return num_bytes_; }
  // Rows of the source: those of the stored matrix from its first row on.
  int64_t num_rows() const;
  // Reads rows [first, last) of the source. Throws invalid_model_file for zeros that contradict the source.
  DecodedRows decode(int64_t first, int64_t last, const PackedFormat& format) const;

 private:
  class PieceReader;

  [[noreturn]] void refuse(const std::string& message) const;
  void check_codes();
  void check_component(const Component& component, const char* name, int64_t rows, int64_t cols) const;
  void check_scales();
  void check_zeros();
  std::vector<int32_t> ordered_groups() const;
  void find_groups();

  NamedSource named_;
  std::span<const WeightFile> files_;
  CodeTraits traits_;
  int64_t num_groups_ = 0;
  int64_t num_bytes_ = 0;
  std::vector<int32_t> group_of_col_;  // empty for groups in order: experts have thousands of these tensors
};

CodeTraits code_traits(const WeightSource& source);

}  // namespace autoglm
