// What every quantized format is turned into on its way to a compute layout: 32 weights of a row with their
// scales.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/packed_matrix.h"

namespace autoglm {

// weight = code_value(layout, has_min, code) * scale, and + min for formats with mins. Parts are columns
// 0..15 and 16..31; where a group has one scale, both parts have it.
struct GroupCodes {
  uint8_t codes[kGroup];  // of q8: the bits of an int8
  float scales[2];
  float mins[2];
};

// Decodes group number `group` of a stored row.
using DecodeGroup = void (*)(const std::byte* row, int64_t group, GroupCodes& out);

// Null for formats that are not blocks of 32 or more with their scales.
DecodeGroup decode_group_of(StoredFormat format);

// One block of a stored format as floats.
void dequantize_block(StoredFormat format, const std::byte* block, float* out);

}  // namespace autoglm
