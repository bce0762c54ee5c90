// Memory of mappings of its own, and how parts of it go back.
#include "memory/region.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"

namespace autoglm {
namespace {

int64_t page_size() { return sysconf(_SC_PAGESIZE); }

int64_t num_resident(const MemoryRegion& region) {
  std::vector<unsigned char> pages(static_cast<size_t>((region.size() + page_size() - 1) / page_size()));
  EXPECT_EQ(mincore(region.data(), static_cast<size_t>(region.size()), pages.data()), 0);
  return std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; });
}

MemoryRegion full_region(int64_t num_bytes) {
  MemoryRegion region(num_bytes);
  std::fill_n(region.data(), num_bytes, std::byte{7});
  return region;
}

bool is_full(const MemoryRegion& region, int64_t first, int64_t last) {
  return std::all_of(region.data() + first, region.data() + last,
                     [](std::byte each) { return each == std::byte{7}; });
}

TEST(MemoryRegion, GivesWholePagesBackAndKeepsWhatIsBesideThem) {
  const int64_t size = 40 * page_size() + 100;
  MemoryRegion region = full_region(size);
  const int64_t before = num_resident(region);
  region.give_back(3 * page_size() + 1, 20 * page_size());  // ends within page 23
  EXPECT_EQ(num_resident(region), before - 19);
  EXPECT_EQ(region.held_bytes(), size - 19 * page_size());
  EXPECT_EQ(region.size(), size);
  EXPECT_TRUE(is_full(region, 0, 4 * page_size()));
  EXPECT_TRUE(is_full(region, 23 * page_size(), size));
}

TEST(MemoryRegion, KeepsARangeWithinAPage) {
  MemoryRegion region = full_region(4 * page_size());
  region.give_back(page_size() / 2, page_size());
  EXPECT_EQ(region.held_bytes(), region.size());
  EXPECT_TRUE(is_full(region, 0, region.size()));
}

TEST(MemoryRegion, TakesWhatItGaveBackAlongWhenItMoves) {
  MemoryRegion region = full_region(8 * page_size());
  region.give_back(0, 5 * page_size());
  MemoryRegion moved = std::move(region);
  EXPECT_EQ(moved.held_bytes(), 3 * page_size());
  moved = MemoryRegion(page_size());
  EXPECT_EQ(moved.held_bytes(), page_size());
}

TEST(MemoryRegion, RefusesRangesOutsideOfIt) {
  MemoryRegion region = full_region(2 * page_size());
  for (const auto& [offset, size] :
       {std::pair{int64_t{-1}, int64_t{1}}, {0, -1}, {page_size(), page_size() + 1}, {3 * page_size(), 0}}) {
    EXPECT_THROW(region.give_back(offset, size), Error) << offset << ", " << size;
  }
  EXPECT_EQ(region.held_bytes(), region.size());
}

}  // namespace
}  // namespace autoglm
