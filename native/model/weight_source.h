// Where weights come from: the C++ mirror of WeightSource and FileSlice in lib/native/decoder-spec.ts.
#pragma once

#include <cstdint>
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

struct WeightSource {
  StoredFormat format = StoredFormat::f32;
  std::vector<int64_t> shape;  // [out, in] or [length], in elements
  std::vector<FileSlice> slices;
  std::vector<int32_t> row_order;  // row r is stored row row_order[r]; empty for the stored order
  bool is_transposed = false;      // stored as [in, out]
};

// Sources by role; the roles are listed in lib/native/decoder-spec.ts.
using WeightMap = std::unordered_map<std::string, WeightSource>;

}  // namespace autoglm
