// Arguments and launch of repack_floats.cu.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/device_matrix.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Rows first_row .. first_row + num_rows - 1 of a matrix, from panels of base/packed_matrix.h; both are
// multiples of 32, but for the end of the matrix. Row r goes to destination row
// first_destination_row + mapped_row(r), so that parts of a stacked matrix follow each other.
struct RepackFloatsArgs {
  const void* panels = nullptr;     // of row first_row on
  uint16_t* destination = nullptr;  // [rows][row_stride], 16-byte aligned; columns from k on become zeros
  int64_t first_row = 0;
  int64_t first_destination_row = 0;
  int32_t num_rows = 0;
  int32_t k = 0;
  int32_t row_stride = 0;                                // elements, a multiple of 8, >= k
  ComputeLayout layout = ComputeLayout::bf16;            // f32, f16 or bf16
  DeviceLayout destination_layout = DeviceLayout::bf16;  // or f16, from panels of f16 alone
  RowMapping mapping = RowMapping::plain;
};

LaunchShape repack_floats_launch(const RepackFloatsArgs& args);

}  // namespace autoglm::cuda
