// The index maths of quantized weights: each code and scale has a place of its own, where the fragments of
// the PTX ISA want it; stripes cover every slab once; launches fit their tiles.
#include <gtest/gtest.h>

#include <set>

#include "emulator/fragment_lanes.h"
#include "quantized_fixture.h"

namespace autoglm::test {
namespace {

using cuda::DeviceLayout;

TEST(CudaWeightOrder, RowsOfALaneAreNeighboursAndGatePairs) {
  for (int lane_row = 0; lane_row < cuda::kRowLanes; ++lane_row) {
    const int first = cuda::row_of_place({.tile = 0, .half = 0, .lane_row = lane_row});
    EXPECT_EQ(cuda::row_of_place({.tile = 1, .half = 0, .lane_row = lane_row}), first + 1);
    EXPECT_EQ(cuda::row_of_place({.tile = 0, .half = 1, .lane_row = lane_row}), first + 8);
    const int64_t column = first / 16 * 8 + first % 8;
    EXPECT_EQ(cuda::gated_row(column, false), first);
    EXPECT_EQ(cuda::gated_row(column, true), first + 8);
  }
  for (int row = 0; row < kPanelRows; ++row) EXPECT_EQ(cuda::row_of_place(cuda::place_in_panel(row)), row);
}

// Method: for every register of a fragment, the place that the PTX ISA gives its halves is that of the codes
// which the kernel's shifts and masks find in its words.
TEST(CudaWeightOrder, WordsHoldTheFragmentsOfTheirLane) {
  for (const int bits : {4, 8}) {
    std::set<int> places;
    for (int tile = 0; tile < 2; ++tile) {
      for (int step = 0; step < 4; ++step) {
        for (int lane = 0; lane < 32; ++lane) {
          for (int element = 0; element < 8; ++element) {
            const emulator::Place at = emulator::place_in_a<2>(lane, element);
            const int row = cuda::row_of_place({.tile = tile, .half = at.row / 8, .lane_row = at.row % 8});
            const cuda::CodePlace code = cuda::code_in_slab(bits, row, step * 16 + at.col);
            const int reg = element / 2;
            const int half = element % 2;
            const int word = bits == 4 ? (tile * 32 + lane) * 4 + step
                                       : ((tile * 2 + step / 2) * 32 + lane) * 4 + step % 2 * 2 + reg / 2;
            EXPECT_EQ(code.word, word);
            EXPECT_EQ(code.bit, (bits == 4 ? 4 * reg : 8 * (reg % 2)) + 16 * half);
            places.insert(code.word * 32 + code.bit);
          }
        }
      }
    }
    EXPECT_EQ(places.size(), 32u * cuda::kSlabK);
    EXPECT_LT(*places.rbegin(), cuda::slab_bytes(bits) * 8);
  }
}

TEST(CudaWeightOrder, ScalesHavePlacesOfTheirOwn) {
  for (const int group : {16, 32, 64, 128}) {
    for (const int64_t k : {128, 384}) {
      constexpr int64_t kRows = 70;
      std::set<int64_t> places;
      for (int64_t row = 0; row < kRows; ++row) {
        for (int64_t col = 0; col < k; ++col) {
          const int64_t place = cuda::scale_index(k, group, row, col);
          if (col % group == 0) {
            EXPECT_TRUE(places.insert(place).second);
          } else {
            EXPECT_EQ(place, cuda::scale_index(k, group, row, col - 1));
          }
        }
      }
      EXPECT_GE(*places.begin(), 0);
      EXPECT_LT(*places.rbegin() * 2, cuda::scales_bytes(kRows, k, group));
    }
  }
  EXPECT_EQ(cuda::scales_bytes(1, 32, 32), 32 * 2 * 2);  // k is padded to 64
  EXPECT_EQ(cuda::weights_bytes(DeviceLayout::w4, 33, 64), 2 * 1024);
  EXPECT_EQ(cuda::weights_bytes(DeviceLayout::w8, 32, 96), 2 * 2048);
}

TEST(CudaStripePlan, SegmentsCoverEveryBandAndHavePlacesOfTheirOwn) {
  Random random(1);
  for (int i = 0; i < 500; ++i) {
    const auto n = static_cast<int32_t>(1 + random.below(random.below(2) == 0 ? 2000 : 200000));
    const auto k = static_cast<int32_t>(32 * (1 + random.below(500)));
    const cuda::StripePlan plan = cuda::stripes_of(n, k);
    ASSERT_LE(plan.num_stripes, cuda::kMaxStripes);
    ASSERT_GE(int64_t{plan.num_stripes} * plan.stripe, plan.total());
    ASSERT_LT(int64_t{plan.num_stripes - 1} * plan.stripe, plan.total());
    std::set<int32_t> partials;
    std::set<int32_t> tickets;
    int32_t next = 0;
    for (int32_t band = 0; band < plan.num_bands; ++band) {
      ASSERT_EQ(plan.first_stripe(band), band * plan.num_slabs / plan.stripe);
      for (int32_t stripe = plan.first_stripe(band); stripe <= plan.last_stripe(band); ++stripe) {
        const int32_t begin = std::max(stripe * plan.stripe, band * plan.num_slabs);
        const int32_t end = std::min((stripe + 1) * plan.stripe, (band + 1) * plan.num_slabs);
        ASSERT_EQ(begin, next);
        ASSERT_GT(end, begin);
        next = end;
        if (!plan.is_cut(band)) continue;
        ASSERT_TRUE(partials.insert(plan.partial_of(band, stripe)).second);
        ASSERT_LT(plan.partial_of(band, stripe), plan.num_partials());
      }
      if (plan.is_cut(band)) {
        ASSERT_TRUE(tickets.insert(plan.first_stripe(band)).second);
      }
    }
    ASSERT_EQ(next, plan.total());
  }
}

cuda::ProductArgs args_of(int32_t n, int32_t k, int32_t num_rows, int group = 128) {
  cuda::ProductArgs args;
  args.w = {.n = n, .k = k, .group = group, .layout = DeviceLayout::w4};
  args.num_rows = num_rows;
  return args;
}

TEST(CudaQuantizedLaunch, TakesTheTileThatFitsTheRows) {
  EXPECT_EQ(cuda::quantized_launch(args_of(4096, 4096, 0)).kernel, nullptr);
  EXPECT_EQ(cuda::quantized_launch(args_of(0, 4096, 3)).kernel, nullptr);
  EXPECT_STREQ(cuda::quantized_launch(args_of(4096, 4096, 1)).kernel, "quantized_w4_64_8");
  EXPECT_STREQ(cuda::quantized_launch(args_of(4096, 4096, 16, 32)).kernel, "quantized_w4_32_16");
  EXPECT_STREQ(cuda::quantized_launch(args_of(4096, 4096, 17, 16)).kernel, "quantized_w4_16_32");
  EXPECT_STREQ(cuda::quantized_launch(args_of(4096, 4096, 64, 64)).kernel, "quantized_w4_64_64");
  EXPECT_STREQ(cuda::quantized_launch(args_of(28672, 8192, 65)).kernel, "quantized_w4_64_128");
  EXPECT_STREQ(cuda::quantized_launch(args_of(1024, 4096, 200)).kernel, "quantized_w4_64_64");
  EXPECT_STREQ(cuda::quantized_launch(args_of(1024, 4096, 300)).kernel, "quantized_w4_64_128");
  cuda::ProductArgs args = args_of(4096, 4096, 5);
  args.w.mins = &args;
  args.w.layout = DeviceLayout::w8;
  EXPECT_STREQ(cuda::quantized_launch(args).kernel, "quantized_w8_32_mins_8");
}

TEST(CudaQuantizedLaunch, StripesFillTheCardWhateverTheShape) {
  // 151,936 rows are 594 bands, which would leave a third round of 264 blocks a quarter full.
  EXPECT_EQ(cuda::quantized_launch(args_of(151936, 4096, 1)).grid_x, 256u);
  EXPECT_EQ(cuda::quantized_launch(args_of(4096, 14336, 32)).grid_x, 256u);
  EXPECT_EQ(cuda::quantized_launch(args_of(1024, 4096, 32)).grid_x, 32u);
  EXPECT_EQ(cuda::quantized_launch(args_of(8192, 8192, 4096)).grid_x, 64u);
  EXPECT_EQ(cuda::quantized_launch(args_of(8192, 8192, 4096)).grid_y, 32u);
}

TEST(CudaQuantizedLaunch, ExpertsHaveBlocksForTheWorstCase) {
  const int32_t first_pairs[1] = {};
  for (const int32_t rows : {1, 8, 64, 1000, 20000}) {
    cuda::ProductArgs args = args_of(1536, 2048, rows);
    args.experts.first_pairs = first_pairs;
    args.experts.num_experts = 128;
    const int tile = cuda::choose_quantized_tile(cuda::problem_of(args));
    const int32_t tokens = cuda::kQuantizedTiles[tile].tokens();
    EXPECT_TRUE(cuda::may_take(cuda::problem_of(args), cuda::kQuantizedTiles[tile]));
    // One row for each of as many experts as there are, the rest for one of them.
    const int32_t started = std::min(rows, 128);
    EXPECT_GE(cuda::quantized_launch(args).grid_y,
              static_cast<unsigned>(started - 1 + (rows - started + 1 + tokens - 1) / tokens));
  }
}

TEST(CudaQuantizedLaunch, WorkspaceIsEnoughForFewerRowsToo) {
  Random random(2);
  for (int i = 0; i < 20; ++i) {
    const auto n = static_cast<int32_t>(1 + random.below(20000));
    const auto k = static_cast<int32_t>(128 * (1 + random.below(60)));
    size_t before = 0;
    for (int32_t rows = 0; rows < 300; ++rows) {
      const cuda::ProductArgs args = args_of(n, k, rows);
      const size_t bytes = cuda::quantized_workspace_bytes(args);
      ASSERT_GE(bytes, before);
      ASSERT_GE(bytes,
                cuda::quantized_workspace_bytes(args, cuda::choose_quantized_tile(cuda::problem_of(args))));
      before = bytes;
    }
  }
}

}  // namespace
}  // namespace autoglm::test
