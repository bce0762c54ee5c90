// Codes with scales of their own; whole checkpoints of each packing are compared in test/parity.
#include "quant/coded_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "random_values.h"

namespace autoglm::test {
namespace {

// One row of float8 or int8 codes, one scale per `group_cols` columns.
class ByteRow {
 public:
  ByteRow(StoredFormat format, std::vector<uint8_t> bytes, int64_t group_cols, std::vector<float> row_scales)
      : codes(bytes.size()), scales(std::move(row_scales)), zeros(scales.size(), 0), groups(bytes.size()) {
    std::memcpy(codes.data(), bytes.data(), bytes.size());
    for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int32_t>(i / group_cols);
    rows = {.traits = {.format = format,
                       .num_cols = static_cast<int64_t>(codes.size()),
                       .group_cols = group_cols,
                       .is_symmetric = true},
            .num_rows = 1,
            .codes = codes,
            .num_groups = static_cast<int64_t>(scales.size()),
            .scales = scales,
            .zeros = zeros,
            .group_of_col = groups};
  }

  std::vector<std::byte> codes;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  std::vector<int32_t> groups;
  CodedRows rows;
};

// Source: OCP 8-bit floating point specification, table 1: E4M3 has bias 7, no infinities, largest value 448.
TEST(CodedRows, ReadsEveryFloat8) {
  std::vector<uint8_t> bytes(256);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  const ByteRow row(StoredFormat::f8_e4m3, bytes, 256, {1});
  std::vector<float> values(256);
  decode_row(row.rows, 0, std::span<float>(values));
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const double fraction = code & 7;
    const double size =
        exponent == 0 ? fraction / 8 * std::pow(2, -6) : (1 + fraction / 8) * std::pow(2, exponent - 7);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(values[code])) << code;
    } else {
      EXPECT_EQ(values[code], static_cast<float>(code < 128 ? size : -size)) << code;
    }
  }
  EXPECT_EQ(values[0x7e], 448);
  EXPECT_EQ(values[0x01], 0x1p-9f);
}

// Source: OCP microscaling formats, table 5: E2M1 has the magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6.
TEST(CodedRows, ReadsEveryFloat4AndKeepsItsCode) {
  const float magnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<std::byte> bytes(16);
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::byte>(2 * i % 16 | (2 * i + 1) % 16 << 4);
  const std::vector<float> scales = {4};
  const std::vector<int32_t> zeros = {8}, groups(32, 0);
  const CodedRows rows = {
      .traits = {.format = StoredFormat::packed_e2m1, .num_cols = 32, .group_cols = 32, .is_symmetric = true},
      .num_rows = 1,
      .codes = bytes,
      .num_groups = 1,
      .scales = scales,
      .zeros = zeros,
      .group_of_col = groups};
  std::vector<float> values(32);
  std::vector<GroupCodes> kept(1);
  decode_row(rows, 0, std::span<float>(values));
  decode_row(rows, 0, std::span<GroupCodes>(kept));
  for (int i = 0; i < 32; ++i) {
    const float expected = (i % 16 < 8 ? 4 : -4) * magnitudes[i % 8];
    EXPECT_EQ(values[i], expected) << i;
    EXPECT_EQ(
        static_cast<float>(code_value(ComputeLayout::e2m1, false, kept[0].codes[i])) * kept[0].scales[0],
        expected)
        << i;
  }
}

// Goal: float8 weights lose next to nothing as int8 with a scale per 32. Method: bell-shaped weights; the
// error that int8 adds against the error that float8 had already, both root mean squares.
TEST(CodedRows, RegroupingAddsLittleToTheErrorOfFloat8) {
  Random random(91);
  constexpr int64_t kCols = 8192;
  const float scale = 4.0f / 448;
  std::vector<uint8_t> bytes(kCols);
  std::vector<float> wanted = random.normals(kCols);
  std::vector<float> table(256);
  std::vector<uint8_t> all(256);
  std::iota(all.begin(), all.end(), uint8_t{0});
  decode_row(ByteRow(StoredFormat::f8_e4m3, all, 256, {scale}).rows, 0, std::span<float>(table));
  for (int64_t i = 0; i < kCols; ++i) {
    for (int code = 0; code < 256; ++code) {
      if (std::fabs(table[code] - wanted[i]) < std::fabs(table[bytes[i]] - wanted[i])) {
        bytes[i] = static_cast<uint8_t>(code);
      }
    }
  }
  const ByteRow row(StoredFormat::f8_e4m3, bytes, kCols, {scale});
  std::vector<float> exact(kCols);
  std::vector<GroupCodes> groups(kCols / kGroup);
  decode_row(row.rows, 0, std::span<float>(exact));
  decode_row(row.rows, 0, std::span<GroupCodes>(groups));
  double own = 0, added = 0;
  for (int64_t i = 0; i < kCols; ++i) {
    const GroupCodes& group = groups[i / kGroup];
    const float kept = static_cast<float>(static_cast<int8_t>(group.codes[i % kGroup])) * group.scales[0];
    own += std::pow(exact[i] - wanted[i], 2);
    added += std::pow(kept - exact[i], 2);
  }
  EXPECT_LT(std::sqrt(added / own), 0.25);
  EXPECT_GT(added, 0);
}

TEST(CodedRows, AGroupThatIsNotFiniteKeepsAScaleThatIsNot) {
  std::vector<uint8_t> bytes(64, 0x38);  // 1
  bytes[40] = 0x7f;
  const ByteRow row(StoredFormat::f8_e4m3, bytes, 64, {2});
  std::vector<GroupCodes> groups(2);
  decode_row(row.rows, 0, std::span<GroupCodes>(groups));
  EXPECT_NEAR(groups[0].scales[0] * 127, 2, 2 * 0x1p-11);  // the scale is rounded to a half
  EXPECT_TRUE(std::isnan(groups[1].scales[0]));
}

TEST(CodedRows, KeepsCodesWhereGroupsAreWhole) {
  CodeTraits traits = {
      .format = StoredFormat::gptq_4, .num_cols = 256, .group_cols = 128, .is_symmetric = true};
  const PackedFormat q4 = {.layout = ComputeLayout::q4};
  EXPECT_EQ(choose_packed_format(traits, Precision::fast), q4);
  traits.format = StoredFormat::packed_e2m1;
  EXPECT_EQ(choose_packed_format(traits, Precision::fast), (PackedFormat{.layout = ComputeLayout::e2m1}));
  traits.format = StoredFormat::gptq_4;
  traits.is_symmetric = false;
  EXPECT_EQ(choose_packed_format(traits, Precision::exact),
            (PackedFormat{.layout = ComputeLayout::q4, .scale_type = ScaleType::f32, .has_min = true}));
  const PackedFormat q8 = {.layout = ComputeLayout::q8};
  const PackedFormat f32 = {.layout = ComputeLayout::f32};
  const auto expect_regrouped = [&](const CodeTraits& each) {
    EXPECT_EQ(choose_packed_format(each, Precision::fast), q8);
    EXPECT_EQ(choose_packed_format(each, Precision::exact), f32);
  };
  CodeTraits other = traits;
  other.has_ordered_groups = false;
  expect_regrouped(other);
  other = traits;
  other.group_cols = 16;
  expect_regrouped(other);
  other = traits;
  other.format = StoredFormat::f8_e4m3;
  expect_regrouped(other);
  other = traits;
  other.num_cols = other.group_cols = 40;
  EXPECT_EQ(choose_packed_format(other, Precision::fast), f32) << "no whole groups of 32";
}

}  // namespace
}  // namespace autoglm::test
