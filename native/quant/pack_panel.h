// Packs one panel of 32 rows; the layouts are those of base/packed_matrix.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/packed_matrix.h"
#include "quant/group_codes.h"

namespace autoglm {

// One stored row of a panel, as file bytes or decoded; without either it is a row of zeros.
struct PackedRow {
  StoredFormat format = StoredFormat::f32;
  const std::byte* data = nullptr;
  int64_t element_stride = 0;  // bytes between columns, float formats only
  const GroupCodes* groups = nullptr;

  bool is_present() const { return data != nullptr || groups != nullptr; }
};

// Writes panel `panel` and its factor. Rows are complete: matrix.k columns each, of a format that becomes the
// layout.
void pack_panel(PackedMatrix& matrix, int64_t panel, const PackedRow (&rows)[kPanelRows]);

}  // namespace autoglm
