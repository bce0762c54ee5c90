// Turns the bytes of model files into packed matrices. The stored block formats are those of docs/formats.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/packed_matrix.h"
#include "base/thread_pool.h"
#include "quant/group_codes.h"

namespace autoglm {

// Some rows of a matrix to pack, as file bytes.
struct StoredRows {
  StoredFormat format = StoredFormat::f32;
  std::span<const std::byte> bytes = {};  // any alignment
  int64_t num_rows = 0;                   // rows this source gives to the packed matrix
  int64_t num_cols = 0;
  // Row r of the packed matrix is stored row row_order[r]; empty for r itself. Length num_rows.
  std::span<const int32_t> row_order = {};
  bool is_transposed = false;    // bytes are [num_cols, num_rows]; float formats only
  int64_t first_stored_row = 0;  // the stored row at bytes[0], for packing a big matrix piece by piece
  int64_t num_stored_rows = 0;   // rows in `bytes`; 0 means num_rows - first_stored_row
  // Instead of format and bytes, for quantized matrices: decoded rows, [num_stored_rows][num_cols / 32].
  std::span<const GroupCodes> groups = {};
};

// Packs `sources`, stacked by rows, into the whole of `matrix` on the pool. They must add up to matrix.n rows
// of matrix.k columns and share its packed format. Throws invalid_parameter (sizes, row order) or
// invalid_model_file (format that does not become the matrix's layout), naming the source's index.
void pack_matrix(ThreadPool& pool, PackedMatrix& matrix, std::span<const StoredRows> sources);

// The same for panels [first, last) on the calling thread. Only the stored rows these panels use must be in
// `bytes`. Disjoint panel ranges may be packed from several threads at the same time.
void pack_panels(PackedMatrix& matrix, std::span<const StoredRows> sources, int64_t first, int64_t last);

// Values of one stored vector or row as floats (norm weights, biases). Throws as pack_matrix does.
void dequantize_stored(StoredFormat format, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace autoglm
