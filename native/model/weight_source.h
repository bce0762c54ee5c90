// Where weights come from: the C++ mirror of WeightSource and FileSlice in lib/native/decoder-spec.ts.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/formats.h"

namespace autoglm {

struct ModelFile {
  std::string path;
  int64_t size = 0;
  double mtime_ms = 0;  // when the header was parsed
};

struct FileSlice {
  int32_t file = 0;
  int64_t offset = 0;
  int64_t num_bytes = 0;
};

// A tensor that belongs to a quantized matrix: [rows, cols] elements in one slice.
struct Component {
  FileSlice slice;
  ComponentDtype dtype = ComponentDtype::f32;
  std::array<int64_t, 2> shape = {};
};

// How codes become weights: (code - zero) * scale.
struct Quantization {
  int64_t num_stored_rows = 0;  // of the whole stored matrix; the source has those from first_row on
  int64_t first_row = 0;
  int64_t group_rows = 1;  // rows and columns that share a scale
  int64_t group_cols = 1;
  bool is_symmetric = false;        // every zero is the middle of the codes' range; stored ones must agree
  bool has_ordered_groups = true;   // runs of columns, else group_index says; a stored one must agree
  bool has_zeros_less_one = false;  // GPTQ v1
  Component scales;                 // gptq, awq: [groups, out]; others: [out / group_rows, groups]
  std::optional<Component> zeros;   // gptq, awq: [groups, words]; packed: [words, groups]; i8: as the scales
  std::optional<Component> group_index;  // [1, in]
};

struct WeightSource {
  StoredFormat format = StoredFormat::f32;
  std::vector<int64_t> shape;  // [out, in] or [length], in elements
  std::vector<FileSlice> slices;
  std::vector<int32_t> row_order;            // row r is stored row row_order[r]; empty for the stored order
  bool is_transposed = false;                // stored as [in, out]
  std::optional<Quantization> quantization;  // of code formats
};

// Sources by role; the roles are listed in lib/native/decoder-spec.ts.
using WeightMap = std::unordered_map<std::string, WeightSource>;

}  // namespace autoglm
