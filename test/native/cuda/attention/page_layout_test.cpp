// Index maths of pages, on its own.
#include <gtest/gtest.h>

#include <set>

#include "cuda/attention/page_layout.h"

namespace autoglm::cuda {
namespace {

constexpr int kHeadDims[] = {16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256};

TEST(PageLayout, EveryElementOfATileHasItsOwnPlace) {
  for (const int head_dim : kHeadDims) {
    std::set<int> places;
    for (int slot = 0; slot < kPageTokens; ++slot) {
      for (int dim = 0; dim < head_dim; ++dim) {
        const int offset = offset_in_tile(slot, dim, head_dim);
        EXPECT_EQ(offset / head_dim, slot) << "a token stays in its row, so that rows can be left out";
        places.insert(offset);
      }
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(tile_elements(head_dim)));
    EXPECT_EQ(*places.rbegin(), tile_elements(head_dim) - 1);
  }
}

// Goal: a matrix load of 8 keys at one dim has no bank conflict. The 32 banks are 8 groups of 16 bytes.
TEST(PageLayout, EightRowsOfAMatrixLieInEightBankGroups) {
  for (const int head_dim : kHeadDims) {
    for (int first = 0; first < kPageTokens; first += 8) {
      for (int dim = 0; dim < head_dim; dim += kChunkElements) {
        std::set<int> groups;
        for (int row = 0; row < 8; ++row) {
          groups.insert(offset_in_tile(first + row, dim, head_dim) * 2 / 16 % kBankGroups);
        }
        EXPECT_EQ(groups.size(), 8u) << "head dim " << head_dim << ", dim " << dim;
      }
    }
  }
}

TEST(PageLayout, TilesOfPagesFollowEachOther) {
  int64_t expected = 0;
  for (int page = 0; page < 3; ++page) {
    for (int head = 0; head < 5; ++head) {
      EXPECT_EQ(key_tile_offset(page, head, 5, 96), expected);
      expected += 2 * tile_elements(96);
    }
  }
  EXPECT_EQ(key_tile_offset(int64_t{1} << 31, 0, 8, 128), (int64_t{1} << 31) * 8 * 2 * 16 * 128);
}

}  // namespace
}  // namespace autoglm::cuda
