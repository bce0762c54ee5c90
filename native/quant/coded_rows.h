// Rows of a matrix whose codes, scales and zeros lie in tensors of their own (GPTQ, AWQ, compressed-tensors,
// FP8). Source: docs/formats.md; checked against independent unpackers (test/fixtures/stored).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/packed_matrix.h"
#include "quant/group_codes.h"

namespace autoglm {

// What decides how such a matrix is kept.
struct CodeTraits {
  StoredFormat format = StoredFormat::i8;
  int64_t num_cols = 0;
  int64_t group_cols = 0;  // columns that share a scale
  bool is_symmetric = false;
  bool has_ordered_groups = true;
};

// Whole groups of 32 columns with one scale keep their codes, as q4, q8 or e2m1. Others (act-order, groups of
// 16, 8-bit floats) become q8 with new scales in fast, whose error is a small part of the format's own, and
// f32 in exact.
PackedFormat choose_packed_format(const CodeTraits& traits, Precision precision);

struct CodedRows {
  CodeTraits traits;
  int64_t num_rows = 0;
  // Bytes as in the file, cut to these rows. gptq: words [num_cols / codes per word][num_rows]; awq: words
  // [num_cols][words that hold the rows]; others: [num_rows][whole words of num_cols codes].
  std::span<const std::byte> codes = {};
  int64_t first_in_word = 0;  // awq: place of row 0 in its word
  int64_t num_groups = 0;
  std::span<const float> scales = {};          // [num_rows][num_groups]
  std::span<const int32_t> zeros = {};         // [num_rows][num_groups]; not of f8_e4m3, packed_e2m1
  std::span<const int32_t> group_of_col = {};  // [num_cols], each below num_groups
};

// Row `row` as floats [num_cols].
void decode_row(const CodedRows& rows, int64_t row, std::span<float> out);

// Row `row` as groups [num_cols / 32] of a quantized format that choose_packed_format gave.
void decode_row(const CodedRows& rows, int64_t row, std::span<GroupCodes> out);

// Bits of one code of a code format.
constexpr int code_bits(StoredFormat format) {
  const StoredFormatInfo& info = info_of(format);
  return static_cast<int>(info.bytes_per_block * 8 / info.elements_per_block);
}

// Value number `index` of a run of codes packed in words, lowest bits first; `word_at` gives the words.
template <typename WordAt>
uint32_t unpack_code(int64_t index, int bits, const WordAt& word_at) {
  const int64_t at = index * bits;
  const int shift = static_cast<int>(at % 32);
  uint32_t value = word_at(at / 32) >> shift;
  if (shift + bits > 32) value |= word_at(at / 32 + 1) << (32 - shift);
  return value & ((1u << bits) - 1);
}

// Nibble of the AWQ word that holds row r of its eight.
constexpr int kAwqNibbles[8] = {0, 4, 1, 5, 2, 6, 3, 7};

}  // namespace autoglm
