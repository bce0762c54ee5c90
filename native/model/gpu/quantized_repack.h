// Quantized weights into a matrix on the device: what the kernel of cuda/quantized/repack.h is told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/packed_matrix.h"
#include "cuda/device_matrix.h"
#include "cuda/driver/stream.h"

namespace autoglm::gpu {

// Where the rows of a part go: first_row + r, or gated_row(first_row + r).
enum class PartRows : uint8_t { plain, gate, up };

// Panels [first_panel, ...) of a part, in the memory of the device, num_rows rows of it.
struct QuantizedPiece {
  const std::byte* panels = nullptr;
  const float* panel_factors = nullptr;
  PackedFormat format;
  int64_t first_panel = 0;
  int64_t num_rows = 0;
  int64_t first_row = 0;
  PartRows rows = PartRows::plain;
};

// Queues the piece's way into `destination`, which held zeros before the first of its pieces.
void repack_quantized(const QuantizedPiece& piece, const cuda::DeviceMatrix& destination,
                      cuda::Stream& stream);

// How many columns share a scale, and a min, in each of the rows [first_row, first_row + num_rows), which
// begin with a panel: 16 where halves of 32 have their own, else 32, 64 or 128. Whole panels are looked at,
// and how often a checkpoint's group of 64 or 128 was repeated for the processor shows there.
int32_t shared_group(const PackedMatrix& matrix, int64_t first_row, int64_t num_rows);

// Takes a part's factors into those of the destination, zeros before the first part.
void merge_factors(const float* panel_factors, int64_t num_rows, PartRows rows, int64_t first_row,
                   std::span<float> row_factors);

}  // namespace autoglm::gpu
