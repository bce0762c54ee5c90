// Arguments and launch of repack.cu: weights in the CPU's panels become part of a DeviceMatrix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/packed_matrix.h"
#include "cuda/device_matrix.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// A range of panels of the source, in device memory. q4 becomes w4, every other quantized layout w8.
struct RepackArgs {
  const std::byte* panels = nullptr;     // [num_panels], as base/packed_matrix.h has them, halves as scales
  const float* panel_factors = nullptr;  // optional [num_panels] of the range
  PackedFormat format;
  int32_t k = 0;            // of the source and of the destination
  int32_t num_rows = 0;     // of the range: all of its panels' rows but padding
  int32_t first_panel = 0;  // number of the range's first panel in the source
  RowMapping mapping = RowMapping::plain;
  int32_t first_row = 0;  // destination row of the source's row 0; for gate and up a row of the pair
  // The destination. All bytes are zero before the first of its sources, since rows of several share words,
  // and padding is never written. Launches for one destination run one after the other.
  void* weights = nullptr;
  void* scales = nullptr;
  void* mins = nullptr;                // present exactly if format.has_min
  const float* row_factors = nullptr;  // optional; as merge_row_factors leaves them, null if all are 1
  // Of the destination: 16 if scales_per_group is 2, else 32; or 64 or 128, if the source's groups of 32
  // share their scale that far, of which the first is kept then.
  int32_t group = 0;

  constexpr DeviceLayout layout() const {
    return format.layout == ComputeLayout::q4 ? DeviceLayout::w4 : DeviceLayout::w8;
  }
};

LaunchShape repack_launch(const RepackArgs& args);

// One factor for each 32 rows of the destination: the largest of those of the sources' rows in it, powers of
// two all of them. `row_factors` is zero before the first source. Scales are multiplied by what is left,
// which is exact while they stay in the range of normal halves.
void merge_row_factors(const float* panel_factors, int64_t num_rows, RowMapping mapping, int64_t first_row,
                       float* row_factors);

}  // namespace autoglm::cuda
