// Stored formats against the gguf package, and packed matrices against stored ones.
#include "quant/repack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <string>

#include "base/error.h"
#include "ops/embedding.h"
#include "packed_weights.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

constexpr int64_t kNumBlocks = 1000;
constexpr int64_t kHashedBlocks = 100;

const std::map<std::string, StoredFormat> kByName = {
#define AUTOGLM_STORED_FORMAT(name, ...) {#name, StoredFormat::name},
#include "base/formats.def"
#undef AUTOGLM_STORED_FORMAT
};

std::string fnv1a(const void* data, size_t size) {
  uint64_t value = 0xcbf29ce484222325;
  for (size_t i = 0; i < size; ++i) value = (value ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3;
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// The blocks that test/fixtures/make_quant_blocks.py made.
std::vector<std::byte> fixture_blocks(uint64_t seed, int64_t block_bytes, const std::string& halves) {
  std::vector<uint8_t> bytes = Random(seed).bytes(kNumBlocks * block_bytes);
  std::stringstream offsets(halves);
  for (std::string offset; halves != "-" && std::getline(offsets, offset, ',');) {
    for (int64_t block = 0; block < kNumBlocks; ++block) {
      uint8_t& exponent = bytes[block * block_bytes + std::stoll(offset) + 1];
      if ((exponent & 0x78) == 0x78) exponent &= 0xbf;
    }
  }
  std::vector<std::byte> out(bytes.size());
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(StoredBlocks, DequantizeBitForBitAsTheGgufPackageDoes) {
  std::ifstream file(AUTOGLM_FIXTURES "/quant_blocks.txt");
  int num_formats = 0;
  for (std::string line; std::getline(file, line); ++num_formats) {
    std::stringstream fields(line);
    std::string name, halves;
    uint64_t seed = 0;
    int64_t block_bytes = 0;
    fields >> name >> seed >> block_bytes >> halves;
    const StoredFormat format = kByName.at(name);
    ASSERT_EQ(info_of(format).bytes_per_block, block_bytes);
    const std::vector<std::byte> blocks = fixture_blocks(seed, block_bytes, halves);
    std::vector<float> values(kNumBlocks * info_of(format).elements_per_block);
    dequantize_stored(format, blocks, values);
    const size_t piece = kHashedBlocks * info_of(format).elements_per_block;
    for (int64_t first = 0; first < kNumBlocks; first += kHashedBlocks) {
      std::string expected;
      fields >> expected;
      EXPECT_EQ(fnv1a(values.data() + first / kHashedBlocks * piece, piece * sizeof(float)), expected)
          << name << ", blocks from " << first;
    }
  }
  EXPECT_EQ(num_formats, 17);
}

// Rows of a packed matrix as the embedding lookup sees them.
std::vector<float> gather_all(const PackedMatrix& matrix) {
  ThreadPool pool(1);
  std::vector<int32_t> ids(matrix.n);
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<float> out(matrix.n * matrix.k);
  EmbeddingParams params;
  params.table = matrix;
  params.ids = ids.data();
  params.out = TensorView<float>(out.data(), matrix.n, matrix.k);
  embed(Execution(pool, Isa::plain), params);
  return out;
}

TEST(Repack, KeepsEveryWeightExactly) {
  Random random(81);
  for (const auto& [name, format] : kByName) {
    SCOPED_TRACE(name);
    const int64_t k = info_of(format).elements_per_block == 1 ? 45 : 512;
    const PackedWeights weights = random_weights(random, format, Precision::exact, 70, k);
    EXPECT_EQ(gather_all(weights.matrix), weights.values);
  }
}

// Fast K-quants round products of two scales to a half: 2^-11 of the scale's and of the min's part.
TEST(Repack, FastKQuantsAreWithinTheirScalesRounding) {
  Random random(82);
  for (const StoredFormat format :
       {StoredFormat::q2_k, StoredFormat::q3_k, StoredFormat::q4_k, StoredFormat::q5_k, StoredFormat::q6_k,
        StoredFormat::iq4_xs, StoredFormat::mxfp4}) {
    for (const float size : {1e-7f, 0.1f, 6e4f}) {  // scales far below and above what a half can hold
      const PackedWeights weights = random_weights(random, format, Precision::fast, 40, 512, size);
      const std::vector<float> found = gather_all(weights.matrix);
      const float largest =
          std::fabs(*std::max_element(weights.values.begin(), weights.values.end(),
                                      [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
      for (size_t i = 0; i < found.size(); ++i) {
        ASSERT_NEAR(found[i], weights.values[i], largest * 0x1p-9f) << "weight " << i << " of size " << size;
      }
    }
  }
}

TEST(Repack, StacksSourcesInOneMatrixAndAppliesTheirRowOrder) {
  Random random(83);
  const std::vector<std::byte> first = random_stored(random, StoredFormat::q4_0, 20, 64, 0.1f);
  const std::vector<std::byte> second = random_stored(random, StoredFormat::q4_0, 33, 64, 0.1f);
  std::vector<float> first_values(20 * 64), second_values(33 * 64);
  dequantize_stored(StoredFormat::q4_0, first, first_values);
  dequantize_stored(StoredFormat::q4_0, second, second_values);
  std::vector<int32_t> order(20);
  for (int i = 0; i < 20; ++i) order[i] = (i * 7) % 20;
  const StoredRows sources[] = {
      {.format = StoredFormat::q4_0, .bytes = first, .num_rows = 20, .num_cols = 64, .row_order = order},
      {.format = StoredFormat::q4_0, .bytes = second, .num_rows = 33, .num_cols = 64}};
  const PackedFormat format = choose_packed_format(StoredFormat::q4_0, Precision::fast);
  AlignedBytes memory(packed_matrix_bytes(format, 53, 64));
  PackedMatrix matrix = make_packed_matrix(format, Precision::fast, 53, 64, memory.bytes());
  ThreadPool pool(2);
  pack_matrix(pool, matrix, sources);
  const std::vector<float> found = gather_all(matrix);
  for (int64_t row = 0; row < 53; ++row) {
    const float* expected =
        row < 20 ? first_values.data() + order[row] * 64 : second_values.data() + (row - 20) * 64;
    EXPECT_TRUE(std::equal(expected, expected + 64, found.begin() + row * 64)) << "row " << row;
  }
}

TEST(Repack, ReadsTransposedFloats) {
  Random random(84);
  for (const StoredFormat format : {StoredFormat::f32, StoredFormat::f16, StoredFormat::bf16}) {
    const std::vector<std::byte> stored = random_stored(random, format, 35, 40, 1);  // [k, n] in the file
    std::vector<float> values(35 * 40);
    dequantize_stored(format, stored, values);
    const PackedFormat packed = choose_packed_format(format, Precision::fast);
    AlignedBytes memory(packed_matrix_bytes(packed, 40, 35));
    PackedMatrix matrix = make_packed_matrix(packed, Precision::fast, 40, 35, memory.bytes());
    const StoredRows source = {
        .format = format, .bytes = stored, .num_rows = 40, .num_cols = 35, .is_transposed = true};
    pack_panels(matrix, {&source, 1}, 0, matrix.num_panels());
    const std::vector<float> found = gather_all(matrix);
    for (int64_t n = 0; n < 40; ++n) {
      for (int64_t k = 0; k < 35; ++k) ASSERT_EQ(found[n * 35 + k], values[k * 40 + n]) << n << ", " << k;
    }
  }
}

TEST(Repack, PacksAMatrixPieceByPiece) {
  Random random(85);
  const std::vector<std::byte> stored = random_stored(random, StoredFormat::q8_0, 100, 64, 0.1f);
  std::vector<float> values(100 * 64);
  dequantize_stored(StoredFormat::q8_0, stored, values);
  const PackedFormat packed = choose_packed_format(StoredFormat::q8_0, Precision::fast);
  AlignedBytes memory(packed_matrix_bytes(packed, 100, 64));
  PackedMatrix matrix = make_packed_matrix(packed, Precision::fast, 100, 64, memory.bytes());
  for (int64_t panel = 0; panel < 4; ++panel) {
    const int64_t first = panel * 32;
    const int64_t count = std::min<int64_t>(32, 100 - first);
    const StoredRows piece = {.format = StoredFormat::q8_0,
                              .bytes = std::span(stored).subspan(first * 68, count * 68),
                              .num_rows = 100,
                              .num_cols = 64,
                              .first_stored_row = first,
                              .num_stored_rows = count};
    pack_panels(matrix, {&piece, 1}, panel, panel + 1);
    EXPECT_THROW(pack_panels(matrix, {&piece, 1}, (panel + 1) % 4, (panel + 1) % 4 + 1), Error)
        << "rows of another panel are not at hand";
  }
  EXPECT_EQ(gather_all(matrix), values);
}

TEST(Repack, RefusesSourcesThatDoNotFit) {
  const PackedFormat format = choose_packed_format(StoredFormat::q4_0, Precision::fast);
  AlignedBytes memory(packed_matrix_bytes(format, 32, 64));
  PackedMatrix matrix = make_packed_matrix(format, Precision::fast, 32, 64, memory.bytes());
  const std::vector<std::byte> bytes(32 * 36);
  const StoredRows good = {.format = StoredFormat::q4_0, .bytes = bytes, .num_rows = 32, .num_cols = 64};
  pack_panels(matrix, {&good, 1}, 0, 1);
  const auto expect_refusal = [&](const StoredRows& source, ErrorCode code) {
    try {
      pack_panels(matrix, {&source, 1}, 0, 1);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code, code) << error.what();
    }
  };
  StoredRows bad = good;
  bad.format = StoredFormat::q4_1;
  expect_refusal(bad, ErrorCode::invalid_model_file);
  bad = good;
  bad.bytes = std::span(bytes).first(32 * 36 - 1);
  expect_refusal(bad, ErrorCode::invalid_parameter);
  bad = good;
  bad.num_rows = 31;
  expect_refusal(bad, ErrorCode::invalid_parameter);
  bad = good;
  bad.is_transposed = true;
  expect_refusal(bad, ErrorCode::invalid_parameter);
  bad = good;
  std::vector<int32_t> order(32, 0);
  order[5] = 32;
  bad.row_order = order;
  expect_refusal(bad, ErrorCode::invalid_parameter);
  order[5] = -1;
  expect_refusal(bad, ErrorCode::invalid_parameter);
  EXPECT_THROW((void)packed_matrix_bytes(format, 32, 48), Error) << "half a group";
  EXPECT_THROW((void)packed_matrix_bytes(format, INT64_MAX / 2, 64), Error) << "a size that overflows";
  EXPECT_THROW((void)make_packed_matrix(format, Precision::fast, 64, 64, memory.bytes()), Error);
}

TEST(Embedding, ScalesRowsAndAddsPositions) {
  Random random(86);
  const PackedWeights table = random_weights(random, StoredFormat::q6_k, Precision::fast, 50, 256, 1);
  const PackedWeights positions = random_weights(random, StoredFormat::f16, Precision::fast, 9, 256, 1);
  const std::vector<float> rows = gather_all(table.matrix);
  const std::vector<int32_t> ids = {49, 0, 7, 7};
  const std::vector<int32_t> position_ids = {0, 8, 3, 4};
  std::vector<float> out(4 * 256);
  ThreadPool pool(2);
  const Execution execution(pool, Isa::plain);
  EmbeddingParams params;
  params.table = table.matrix;
  params.ids = ids.data();
  params.scale = 3;
  params.positions = positions.matrix;
  params.position_ids = position_ids.data();
  params.out = TensorView<float>(out.data(), 4, 256);
  embed(execution, params);
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t i = 0; i < 256; ++i) {
      const float expected = 3 * rows[ids[row] * 256 + i] + positions.values[position_ids[row] * 256 + i];
      ASSERT_EQ(out[row * 256 + i], expected) << "row " << row << ", column " << i;
    }
  }
  const std::vector<int32_t> bad = {0, 50, 0, 0};
  params.ids = bad.data();
  EXPECT_THROW(embed(execution, params), Error);
}

}  // namespace
}  // namespace autoglm::test
