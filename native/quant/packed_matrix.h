// Sizes of packed matrices: which compute layout a stored format gets and how much memory it takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/packed_matrix.h"

namespace autoglm {

// exact keeps every scale as it is (K-quants: products of two scales, in f32); fast stores all of them as
// halves.
PackedFormat choose_packed_format(StoredFormat stored, Precision precision);

// Bytes of a packed [n, k] matrix with its panel factors, a multiple of 64. Throws invalid_parameter for n or
// k < 1 and for a quantized layout whose k is not a multiple of 32.
int64_t packed_matrix_bytes(const PackedFormat& format, int64_t n, int64_t k);

// A matrix over `memory` (64-byte aligned, packed_matrix_bytes long, not yet packed). Throws
// invalid_parameter when the memory does not fit.
PackedMatrix make_packed_matrix(const PackedFormat& format, Precision precision, int64_t n, int64_t k,
                                std::span<std::byte> memory);

}  // namespace autoglm
