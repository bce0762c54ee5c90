// What packed weights hold, row by row: base/packed_matrix.h read back by the host.
#pragma once

#include <cstdint>
#include <span>

#include "base/packed_matrix.h"
#include "cuda/bf16.h"

namespace autoglm::gpu {

// Row `row` of the matrix, rounded to nearest even; `out` holds at least matrix.k values, and zeros behind
// them.
void unpack_row(const PackedMatrix& matrix, int64_t row, std::span<cuda::Bf16> out);

// The same as halves.
void unpack_row(const PackedMatrix& matrix, int64_t row, std::span<uint16_t> out);

// The same without rounding.
void unpack_row(const PackedMatrix& matrix, int64_t row, std::span<float> out);

}  // namespace autoglm::gpu
