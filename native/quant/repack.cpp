#include "quant/repack.h"

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "quant/group_codes.h"
#include "quant/pack_panel.h"
#include "quant/packed_matrix.h"

namespace autoglm {
namespace {

[[noreturn]] void refuse(ErrorCode code, int64_t source, const std::string& message) {
  throw Error(code, "weight source " + std::to_string(source) + ": " + message);
}

int64_t stored_row_bytes(const StoredRows& source) {
  const StoredFormatInfo& info = info_of(source.format);
  return source.num_cols / info.elements_per_block * info.bytes_per_block;
}

int64_t num_stored_rows(const StoredRows& source) {
  return source.num_stored_rows > 0 ? source.num_stored_rows : source.num_rows - source.first_stored_row;
}

void check_row_order(const StoredRows& source, int64_t index) {
  if (source.row_order.empty()) return;
  if (static_cast<int64_t>(source.row_order.size()) != source.num_rows) {
    refuse(ErrorCode::invalid_parameter, index,
           "expected a row order of " + std::to_string(source.num_rows) + " entries, got " +
               std::to_string(source.row_order.size()));
  }
  for (const int32_t row : source.row_order) {
    if (row < 0)
      refuse(ErrorCode::invalid_parameter, index, "the row order names row " + std::to_string(row));
  }
}

void check_groups(const PackedMatrix& matrix, const StoredRows& source, int64_t index) {
  const int64_t needed = checked_mul(num_stored_rows(source), matrix.k / kGroup, "groups of a weight source");
  if (!matrix.format.is_quantized() || source.num_cols != matrix.k || source.num_rows < 1 ||
      source.first_stored_row < 0 || static_cast<int64_t>(source.groups.size()) != needed) {
    refuse(ErrorCode::invalid_parameter, index,
           "expected " + std::to_string(needed) + " groups of " + std::to_string(matrix.k) +
               " columns, got " + std::to_string(source.groups.size()));
  }
  check_row_order(source, index);
}

void check_source(const PackedMatrix& matrix, const StoredRows& source, int64_t index) {
  if (!source.groups.empty()) return check_groups(matrix, source, index);
  const StoredFormatInfo& info = info_of(source.format);
  if (choose_packed_format(source.format, matrix.precision) != matrix.format) {
    refuse(ErrorCode::invalid_model_file, index,
           std::string(info.name) + " does not become layout " + std::string(name_of(matrix.format.layout)) +
               " as the matrix it is stacked in");
  }
  if (source.num_cols != matrix.k || source.num_rows < 1) {
    refuse(ErrorCode::invalid_parameter, index,
           "expected rows of " + std::to_string(matrix.k) + " columns, got [" +
               std::to_string(source.num_rows) + ", " + std::to_string(source.num_cols) + "]");
  }
  if (source.num_cols % info.elements_per_block != 0) {
    refuse(ErrorCode::invalid_parameter, index,
           "expected a multiple of " + std::to_string(info.elements_per_block) + " columns for " +
               std::string(info.name) + ", got " + std::to_string(source.num_cols));
  }
  if (source.is_transposed && info.elements_per_block != 1) {
    refuse(ErrorCode::invalid_parameter, index,
           "only float formats may be transposed, not " + std::string(info.name));
  }
  if (source.first_stored_row < 0 || num_stored_rows(source) < 1) {
    refuse(ErrorCode::invalid_parameter, index, "the range of stored rows is empty");
  }
  const int64_t needed = checked_mul(stored_row_bytes(source), num_stored_rows(source), "a weight source");
  if (static_cast<int64_t>(source.bytes.size()) != needed) {
    refuse(ErrorCode::invalid_parameter, index,
           "expected " + std::to_string(needed) + " bytes, got " + std::to_string(source.bytes.size()));
  }
  check_row_order(source, index);
}

void check_sources(const PackedMatrix& matrix, std::span<const StoredRows> sources) {
  int64_t num_rows = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    check_source(matrix, sources[i], static_cast<int64_t>(i));
    num_rows = checked_add(num_rows, sources[i].num_rows, "rows of a packed matrix");
  }
  if (num_rows != matrix.n) {
    throw Error(ErrorCode::invalid_parameter, "expected sources of " + std::to_string(matrix.n) +
                                                  " rows together, got " + std::to_string(num_rows));
  }
}

// Where row `row` of the packed matrix is stored. Throws when its bytes are not there.
PackedRow locate_row(std::span<const StoredRows> sources, int64_t row) {
  int64_t first = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const StoredRows& source = sources[i];
    if (row >= first + source.num_rows) {
      first += source.num_rows;
      continue;
    }
    const int64_t stored = source.row_order.empty() ? row - first : source.row_order[row - first];
    const int64_t index = stored - source.first_stored_row;
    const int64_t num_stored = num_stored_rows(source);
    if (index < 0 || index >= num_stored) {
      refuse(ErrorCode::invalid_parameter, static_cast<int64_t>(i),
             "row " + std::to_string(stored) + " is outside the stored rows at hand");
    }
    if (!source.groups.empty()) {
      return {.groups = source.groups.data() + index * (source.num_cols / kGroup)};
    }
    const int64_t element_bytes = info_of(source.format).bytes_per_block;
    if (!source.is_transposed) {
      return {.format = source.format,
              .data = source.bytes.data() + index * stored_row_bytes(source),
              .element_stride = element_bytes};
    }
    return {.format = source.format,
            .data = source.bytes.data() + index * element_bytes,
            .element_stride = element_bytes * num_stored};
  }
  return {};
}

void pack_checked(PackedMatrix& matrix, std::span<const StoredRows> sources, int64_t first, int64_t last) {
  for (int64_t panel = first; panel < last; ++panel) {
    PackedRow rows[kPanelRows] = {};
    const int64_t num_rows = std::min(kPanelRows, matrix.n - panel * kPanelRows);
    for (int64_t i = 0; i < num_rows; ++i) rows[i] = locate_row(sources, panel * kPanelRows + i);
    pack_panel(matrix, panel, rows);
  }
}

}  // namespace

void pack_panels(PackedMatrix& matrix, std::span<const StoredRows> sources, int64_t first, int64_t last) {
  check_sources(matrix, sources);
  if (first < 0 || first > last || last > matrix.num_panels()) {
    throw Error(ErrorCode::invalid_parameter, "expected panels within 0.." +
                                                  std::to_string(matrix.num_panels()) + ", got " +
                                                  std::to_string(first) + ".." + std::to_string(last));
  }
  pack_checked(matrix, sources, first, last);
}

void pack_matrix(ThreadPool& pool, PackedMatrix& matrix, std::span<const StoredRows> sources) {
  check_sources(matrix, sources);
  pool.run(matrix.num_panels(), [&](int64_t panel, int) { pack_checked(matrix, sources, panel, panel + 1); });
}

void dequantize_stored(StoredFormat format, std::span<const std::byte> bytes, std::span<float> out) {
  const StoredFormatInfo& info = info_of(format);
  const int64_t count = static_cast<int64_t>(out.size());
  if (count % info.elements_per_block != 0 ||
      static_cast<int64_t>(bytes.size()) != count / info.elements_per_block * info.bytes_per_block) {
    throw Error(ErrorCode::invalid_parameter, "expected the bytes of " + std::to_string(count) +
                                                  " values of " + std::string(info.name) + ", got " +
                                                  std::to_string(bytes.size()));
  }
  for (int64_t i = 0; i < count; i += info.elements_per_block) {
    dequantize_block(format, bytes.data() + i / info.elements_per_block * info.bytes_per_block,
                     out.data() + i);
  }
}

}  // namespace autoglm
