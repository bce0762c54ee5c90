// Index maths of pages, and the codes in them, on their own.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "attention_fixture.h"
#include "cuda/attention/kv_codes.h"
#include "cuda/attention/kv_elements.cuh"
#include "cuda/attention/page_layout.h"

namespace autoglm::cuda {
namespace {

constexpr int kHeadDims[] = {16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256, 576};

TEST(PageLayout, EveryElementOfATileHasItsOwnPlace) {
  for (const KvType type : {KvType::bf16, KvType::int8}) {
    for (const int head_dim : kHeadDims) {
      const KvLayout layout{1, head_dim, type};
      std::set<int> places;
      for (int slot = 0; slot < kPageTokens; ++slot) {
        for (int dim = 0; dim < head_dim; ++dim) {
          const int offset = layout.offset_in_tile(slot, dim);
          EXPECT_EQ(offset / layout.row_bytes(), slot)
              << "a token stays in its row, so that rows can be left out";
          places.insert(offset);
        }
      }
      EXPECT_EQ(places.size(), static_cast<size_t>(kPageTokens * head_dim));
      EXPECT_EQ(*places.rbegin(), layout.tile_bytes() - element_bytes(type));
    }
  }
}

// Goal: a matrix load of 8 keys at one dim has no bank conflict. The 32 banks are 8 groups of 16 bytes.
TEST(PageLayout, EightRowsOfAMatrixLieInEightBankGroups) {
  for (const KvType type : {KvType::bf16, KvType::fp8}) {
    for (const int head_dim : kHeadDims) {
      const KvLayout layout{1, head_dim, type};
      for (int first = 0; first < kPageTokens; first += 8) {
        for (int dim = 0; dim < head_dim; dim += kChunkBytes / element_bytes(type)) {
          std::set<int> groups;
          for (int row = 0; row < 8; ++row) {
            groups.insert(layout.offset_in_tile(first + row, dim) / 16 % kBankGroups);
          }
          EXPECT_EQ(groups.size(), 8u) << "head dim " << head_dim << ", dim " << dim;
        }
      }
    }
  }
}

TEST(PageLayout, HeadsFollowEachOther) {
  for (const KvLayout layout :
       {KvLayout{5, 96, KvType::bf16}, KvLayout{5, 80, KvType::int8}, KvLayout{5, 576, KvType::bf16, true}}) {
    int64_t expected = 0;
    for (int page = 0; page < 3; ++page) {
      for (int head = 0; head < 5; ++head) {
        EXPECT_EQ(layout.head_offset(page, head), expected);
        EXPECT_EQ(expected % kChunkBytes, 0);
        expected += layout.head_bytes();
      }
    }
  }
  EXPECT_EQ((KvLayout{8, 128, KvType::bf16}.head_offset(int64_t{1} << 31, 0)),
            (int64_t{1} << 31) * 8 * 2 * 2 * 16 * 128);
  EXPECT_EQ((KvLayout{1, 80, KvType::int8}.head_bytes()), 2 * 16 * 80 + 2 * 16 * 4);
  EXPECT_EQ((KvLayout{1, 576, KvType::bf16, true}.head_bytes()), 16 * 576 * 2) << "each token once";
}

TEST(KvCodes, EveryE4m3NumberIsItsOwnCode) {
  for (int code = 0; code < 256; ++code) {
    const auto value = static_cast<float>(test::value_of_e4m3(code));
    if (std::isnan(value)) continue;
    EXPECT_EQ(e4m3_of_bits(std::bit_cast<uint32_t>(value)), code);
  }
}

// Between neighbours the nearer one, and at the middle the even one.
TEST(KvCodes, RoundsToTheNearestE4m3AndTiesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const double low = test::value_of_e4m3(code);
    const double high = test::value_of_e4m3(code + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    const auto code_of = [](float value) { return int{e4m3_of_bits(std::bit_cast<uint32_t>(value))}; };
    EXPECT_EQ(code_of(middle), code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(code_of(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(code_of(std::nextafter(middle, 1000.0f)), code + 1);
    EXPECT_EQ(code_of(-std::nextafter(middle, 0.0f)), code | 0x80);
  }
  EXPECT_EQ(e4m3_of_bits(std::bit_cast<uint32_t>(1e30f)), 0x7e);
  EXPECT_EQ(e4m3_of_bits(std::bit_cast<uint32_t>(-1e30f)), 0xfe);
  EXPECT_EQ(e4m3_of_bits(1), 0) << "the smallest subnormal float";
}

double value_of_bf16(uint32_t word, int half) {
  return test::to_float({static_cast<uint16_t>(word >> 16 * half)});
}

TEST(KvCodes, WidenExactlyToBf16) {
  for (int code = 0; code < 256; ++code) {
    // The code in each byte, among others.
    for (int byte = 0; byte < 4; ++byte) {
      const uint32_t word = 0x81a5c37eu ^ ((0x81a5c37eu >> 8 * byte & 0xff) ^ static_cast<uint32_t>(code))
                                              << 8 * byte;
      uint32_t pairs[2];
      widen_int8(word, pairs);
      EXPECT_EQ(value_of_bf16(pairs[byte % 2], byte / 2), static_cast<int8_t>(code));
      widen_fp8(word, pairs);
      if ((code & 0x7f) != 0x7f) {
        EXPECT_EQ(value_of_bf16(pairs[byte % 2], byte / 2), test::value_of_e4m3(code));
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::cuda
