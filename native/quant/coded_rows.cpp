#include "quant/coded_rows.h"

#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "quant/stored_blocks.h"

namespace autoglm {
namespace {

enum class Packing { bytes, words_along_row, gptq, awq };

Packing packing_of(StoredFormat format) {
  switch (format) {
    case StoredFormat::gptq_2:
    case StoredFormat::gptq_3:
    case StoredFormat::gptq_4:
    case StoredFormat::gptq_8:
      return Packing::gptq;
    case StoredFormat::awq_4:
      return Packing::awq;
    case StoredFormat::packed_2:
    case StoredFormat::packed_4:
    case StoredFormat::packed_8:
    case StoredFormat::packed_e2m1:
      return Packing::words_along_row;
    default:
      return Packing::bytes;
  }
}

// Four bits of exponent with bias 7, three of fraction, no infinities, NaN where all bits but the sign are
// set.
float e4m3_to_float(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int fraction = bits & 7;
  float value = exponent == 0 ? static_cast<float>(fraction) * 0x1p-9f
                              : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  if ((bits & 0x7f) == 0x7f) value = NAN;
  return bits & 0x80 ? -value : value;
}

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> kValues = [] {
    std::array<float, 256> values;
    for (int i = 0; i < 256; ++i) values[static_cast<size_t>(i)] = e4m3_to_float(static_cast<uint8_t>(i));
    return values;
  }();
  return kValues;
}

bool is_grouped_by_32(const CodeTraits& traits) {
  return traits.format != StoredFormat::f8_e4m3 && traits.has_ordered_groups &&
         traits.num_cols % kGroup == 0 &&
         (traits.group_cols % kGroup == 0 || traits.group_cols >= traits.num_cols);
}

// Codes of one row as they are stored: unsigned, but for i8.
void unpack_row(const CodedRows& rows, int64_t row, std::span<int32_t> out) {
  const CodeTraits& traits = rows.traits;
  const int bits = code_bits(traits.format);
  const int64_t num_cols = traits.num_cols;
  const auto word = [&](int64_t index) { return load_u32(rows.codes.data() + index * 4); };
  switch (packing_of(traits.format)) {
    case Packing::bytes: {
      const std::byte* from = rows.codes.data() + row * num_cols;
      for (int64_t col = 0; col < num_cols; ++col) out[col] = static_cast<int8_t>(from[col]);
      return;
    }
    case Packing::words_along_row: {
      const int64_t first = row * ((num_cols * bits + 31) / 32);
      const auto word_at = [&](int64_t index) { return word(first + index); };
      for (int64_t col = 0; col < num_cols; ++col)
        out[col] = static_cast<int32_t>(unpack_code(col, bits, word_at));
      return;
    }
    case Packing::gptq: {
      const auto word_at = [&](int64_t index) { return word(index * rows.num_rows + row); };
      for (int64_t col = 0; col < num_cols; ++col)
        out[col] = static_cast<int32_t>(unpack_code(col, bits, word_at));
      return;
    }
    case Packing::awq: {
      const int64_t place = rows.first_in_word + row;
      const int64_t words_per_col = (rows.first_in_word + rows.num_rows + 7) / 8;
      const int shift = 4 * kAwqNibbles[place % 8];
      for (int64_t col = 0; col < num_cols; ++col) {
        out[col] = static_cast<int32_t>(word(col * words_per_col + place / 8) >> shift & 15);
      }
      return;
    }
  }
}

// A scale with the precision of a half, so that codes are rounded to the scale that will be stored.
float round_scale(float scale) {
  const uint32_t bits = std::bit_cast<uint32_t>(scale);
  return std::bit_cast<float>((bits + 0xfff + (bits >> 13 & 1)) & ~uint32_t{0x1fff});
}

// 32 floats as int8 with one scale. A value that is not finite makes the scale NaN, so that products show it.
void quantize_group(const float* values, GroupCodes& out) {
  float largest = 0;
  bool is_finite = true;
  for (int i = 0; i < kGroup; ++i) {
    largest = std::fmax(largest, std::fabs(values[i]));
    is_finite = is_finite && std::isfinite(values[i]);
  }
  const float scale = is_finite ? round_scale(largest / 127) : NAN;
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < kGroup; ++i) {
    const float code = std::isfinite(inverse) && is_finite ? std::nearbyint(values[i] * inverse) : 0;
    out.codes[i] = static_cast<uint8_t>(static_cast<int8_t>(std::fmin(std::fmax(code, -127.0f), 127.0f)));
  }
  out.scales[0] = out.scales[1] = scale;
  out.mins[0] = out.mins[1] = 0;
}

// What a scale of e2m1 is multiplied by: its code book has twice the values.
constexpr float kE2M1Scale = 0.5f;

// Keeps the codes, moved to the zero of the layout: weight = code * scale - zero * scale.
void keep_groups(const CodedRows& rows, int64_t row, std::span<GroupCodes> out) {
  const CodeTraits& traits = rows.traits;
  const int middle = traits.format == StoredFormat::i8 ? 0 : 1 << (code_bits(traits.format) - 1);
  const bool is_q8 = info_of(traits.format).layout == ComputeLayout::q8;
  // What is added to a stored code, and so to a stored zero.
  const int shift = is_q8 ? -middle : traits.is_symmetric ? zero_code(ComputeLayout::q4) - middle : 0;
  std::vector<int32_t> codes(static_cast<size_t>(traits.num_cols));
  unpack_row(rows, row, codes);
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t group = row * rows.num_groups + rows.group_of_col[i * kGroup];
    const bool is_e2m1 = traits.format == StoredFormat::packed_e2m1;
    const float scale = is_e2m1 ? rows.scales[group] * kE2M1Scale : rows.scales[group];
    const float min = -static_cast<float>(rows.zeros[group] + shift) * scale;
    for (size_t j = 0; j < kGroup; ++j) out[i].codes[j] = static_cast<uint8_t>(codes[i * kGroup + j] + shift);
    out[i].scales[0] = out[i].scales[1] = scale;
    out[i].mins[0] = out[i].mins[1] = traits.is_symmetric ? 0 : min;
  }
}

}  // namespace

PackedFormat choose_packed_format(const CodeTraits& traits, Precision precision) {
  const bool is_exact = precision == Precision::exact;
  if (is_grouped_by_32(traits)) {
    return {.layout = info_of(traits.format).layout,
            .scale_type = is_exact ? ScaleType::f32 : ScaleType::f16,
            .has_min = !traits.is_symmetric};
  }
  return {.layout = is_exact || traits.num_cols % kGroup != 0 ? ComputeLayout::f32 : ComputeLayout::q8};
}

void decode_row(const CodedRows& rows, int64_t row, std::span<float> out) {
  const CodeTraits& traits = rows.traits;
  const float* scales = rows.scales.data() + row * rows.num_groups;
  if (traits.format == StoredFormat::f8_e4m3) {
    const std::array<float, 256>& values = e4m3_values();
    const std::byte* from = rows.codes.data() + row * traits.num_cols;
    for (int64_t col = 0; col < traits.num_cols; ++col) {
      out[col] = values[static_cast<uint8_t>(from[col])] * scales[rows.group_of_col[col]];
    }
    return;
  }
  std::vector<int32_t> codes(static_cast<size_t>(traits.num_cols));
  unpack_row(rows, row, codes);
  if (traits.format == StoredFormat::packed_e2m1) {
    for (int64_t col = 0; col < traits.num_cols; ++col) {
      out[col] =
          static_cast<float>(kDoubledE2M1Values[codes[col]]) * (scales[rows.group_of_col[col]] * kE2M1Scale);
    }
    return;
  }
  const int32_t* zeros = rows.zeros.data() + row * rows.num_groups;
  for (int64_t col = 0; col < traits.num_cols; ++col) {
    const int32_t group = rows.group_of_col[col];
    out[col] = static_cast<float>(codes[col] - zeros[group]) * scales[group];
  }
}

void decode_row(const CodedRows& rows, int64_t row, std::span<GroupCodes> out) {
  if (is_grouped_by_32(rows.traits)) return keep_groups(rows, row, out);
  std::vector<float> values(static_cast<size_t>(rows.traits.num_cols));
  decode_row(rows, row, std::span<float>(values));
  for (size_t i = 0; i < out.size(); ++i) quantize_group(values.data() + i * kGroup, out[i]);
}

}  // namespace autoglm
