// Index maths and choices of the products, on their own.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "cuda/gemm/gemm.h"
#include "cuda/gemm/gemm_storage.h"
#include "cuda/gemm/lora.h"
#include "cuda/gemm/repack_floats.h"
#include "emulator/emulated_kernels.h"

namespace autoglm::cuda {
namespace {

TEST(GemmOrder, EveryChunkOfAStageHasItsOwnPlaceInItsRow) {
  for (const int chunks : {4, 8}) {
    std::set<int> places;
    for (int row = 0; row < 64; ++row) {
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const int place = place_in_stage(row, chunk, chunks);
        EXPECT_EQ(place / chunks, row);
        places.insert(place);
      }
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(64 * chunks));
  }
}

// The 16 bytes of 8 neighbouring rows, as a matrix load reads them, and of the 8 threads that copy together.
TEST(GemmOrder, MatrixLoadsAndCopiesMeetNoBankTwice) {
  for (const int chunks : {4, 8}) {
    for (int row = 0; row < 64; row += 8) {
      for (int chunk = 0; chunk < chunks; ++chunk) {
        std::set<int> banks;
        for (int i = 0; i < 8; ++i) banks.insert(place_in_stage(row + i, chunk, chunks) % 8);
        EXPECT_EQ(banks.size(), 8u) << chunks << " chunks, row " << row;
      }
    }
    for (int thread = 0; thread < 128; thread += 8) {
      std::set<int> banks;
      for (int i = 0; i < 8; ++i) {
        banks.insert(place_in_stage((thread + i) / chunks, (thread + i) % chunks, chunks) % 8);
      }
      EXPECT_EQ(banks.size(), 8u);
    }
  }
}

TEST(GemmOrder, BandsCoverEveryTileOnce) {
  for (const int rows : {1, 3, 16, 17, 40}) {
    for (const int cols : {1, 5, 32}) {
      std::set<std::pair<int, int>> seen;
      for (int block = 0; block < rows * cols; ++block) {
        const TileIndex tile = tile_of_block(block, rows, cols, 16);
        EXPECT_GE(tile.row, 0);
        EXPECT_LT(tile.row, rows);
        EXPECT_LT(tile.col, cols);
        seen.insert({tile.row, tile.col});
      }
      EXPECT_EQ(seen.size(), static_cast<size_t>(rows * cols));
    }
  }
  EXPECT_EQ(tile_of_block(17, 64, 32, 16), (TileIndex{1, 1}));
  EXPECT_EQ(tile_of_block(16 * 32 + 3, 64, 32, 16), (TileIndex{19, 0}));
}

TEST(GemmSplits, CoverKWithPartsThatAllHaveWork) {
  for (int n = 8; n <= 20'000; n = n * 5 / 4 + 3) {
    for (int k = 8; k <= 30'000; k = k * 4 / 3 / 8 * 8 + 8) {
      const KSplits splits = splits_of_matrix(n, k);
      EXPECT_EQ(splits.split_k % kSplitUnit, 0);
      EXPECT_GE(int64_t{splits.count} * splits.split_k, k);
      EXPECT_LT((splits.count - 1) * splits.split_k, k);
      EXPECT_LE(splits.count, kMaxSplits);
      if (splits.count == 1) continue;
      EXPECT_GE(splits.split_k, kMinSplitK);
      const int64_t tiles = std::max<int64_t>(ceil_div(n, 64), 2 * ceil_div(n, 128));
      EXPECT_LE(tiles, kGemmTickets);
      EXPECT_LE(ceil_div(n, 64) * splits.count, kWantedBlocks);
    }
  }
  EXPECT_EQ(splits_of_matrix(4096, 4096).count, 4);
  EXPECT_EQ(splits_of_matrix(4096, 14336).count, 4);
  EXPECT_EQ(splits_of_matrix(28672, 4096).count, 1);
  EXPECT_EQ(splits_of_matrix(1024, 16384).count, 16);
}

TEST(GemmChoice, FollowsTheRowsThatShareWeights) {
  const auto choose = [](int rows, int n, int experts = 0) {
    return choose_gemm({.n = n, .k = 4096, .num_rows = rows, .num_experts = experts});
  };
  EXPECT_EQ(choose(1, 4096), GemmVariant::gemv_1);
  EXPECT_EQ(choose(2, 4096), GemmVariant::gemv_2);
  EXPECT_EQ(choose(3, 4096), GemmVariant::gemv_4);
  EXPECT_EQ(choose(5, 4096), GemmVariant::tile_16x64);
  EXPECT_EQ(choose(17, 4096), GemmVariant::tile_32x64);
  EXPECT_EQ(choose(33, 4096), GemmVariant::tile_64x128);
  EXPECT_EQ(choose(128, 28672), GemmVariant::tile_64x128) << "rows up to 128 are one family";
  EXPECT_EQ(choose(512, 4096), GemmVariant::tile_128x128);
  EXPECT_EQ(choose(8192, 8192), GemmVariant::tile_128x256);
  EXPECT_EQ(choose(1, 4096, 64), GemmVariant::tile_16x64) << "experts have no gemv";
  EXPECT_EQ(choose(2048, 1536, 64), GemmVariant::tile_32x64);
  EXPECT_EQ(choose(65536, 1536, 64), GemmVariant::tile_128x256);
}

TEST(GemmLaunch, HasOneBlockPerTileAndSplit) {
  ProductArgs args;
  args.w.n = 4100;
  args.w.k = 4096;
  args.num_rows = 20;
  LaunchShape shape = gemm_launch(args);
  EXPECT_EQ(std::string(shape.kernel), "gemm_32x64");
  EXPECT_EQ(shape.grid_x, 65u);
  EXPECT_EQ(shape.grid_y, 4u);
  args.num_rows = 300;
  shape = gemm_launch(args, GemmVariant::tile_64x128);
  EXPECT_EQ(shape.grid_x, 5u * 33u);
  EXPECT_EQ(shape.grid_y, 1u) << "more than kMaxSplitRows";
  const int32_t first_pairs[] = {0};
  args.experts = {.first_pairs = first_pairs, .num_experts = 8};
  shape = gemm_launch(args, GemmVariant::tile_64x128);
  EXPECT_EQ(shape.grid_x, (300u / 64 + 8) * 33u);
  EXPECT_EQ(gemm_workspace_bytes(args), 0u);
}

TEST(GemmLaunch, WorkspaceHoldsEveryTileOfEveryVariantThatSplits) {
  for (int rows = 1; rows <= 300; rows += 7) {
    for (const int n : {8, 64, 100, 4096, 8000}) {
      ProductArgs args;
      args.w.n = n;
      args.w.k = 8192;
      args.num_rows = rows;
      for (const GemmVariant variant :
           {GemmVariant::tile_16x64, GemmVariant::tile_32x64, GemmVariant::tile_64x128}) {
        const LaunchShape shape = gemm_launch(args, variant);
        if (shape.grid_y == 1) continue;
        const int64_t sums = variant == GemmVariant::tile_16x64   ? 16 * 64
                             : variant == GemmVariant::tile_32x64 ? 32 * 64
                                                                  : 64 * 128;
        EXPECT_GE(gemm_workspace_bytes(args),
                  size_t{kGemmTicketBytes} + shape.grid_x * shape.grid_y * sums * sizeof(float));
        if (variant == choose_gemm({n, 8192, rows, 0})) {
          EXPECT_LE(shape.grid_x, unsigned{kGemmTickets});
        }
      }
    }
  }
}

TEST(GemmLaunch, NamesKernelsThatExist) {
  ProductArgs args;
  args.w.n = 64;
  args.w.k = 64;
  args.num_rows = 1;
  for (int i = 0; i < kNumGemmVariants; ++i) {
    args.w.layout = DeviceLayout::bf16;
    const std::string name = gemm_launch(args, static_cast<GemmVariant>(i)).kernel;
    args.w.layout = DeviceLayout::f16;
    const std::string f16_name = gemm_launch(args, static_cast<GemmVariant>(i)).kernel;
    EXPECT_EQ(f16_name, name + "_f16");
    EXPECT_NE(emulator::find_kernel(name.c_str()), nullptr) << name;
    EXPECT_NE(emulator::find_kernel(f16_name.c_str()), nullptr) << f16_name;
  }
}

TEST(RepackRows, GateAndUpTakeTurnsOfEight) {
  std::set<int64_t> rows;
  for (int64_t i = 0; i < 40; ++i) {
    rows.insert(mapped_row(RowMapping::gate, i));
    rows.insert(mapped_row(RowMapping::up, i));
  }
  EXPECT_EQ(rows.size(), 80u);
  EXPECT_EQ(*rows.rbegin(), 79);
  EXPECT_EQ(mapped_row(RowMapping::gate, 9), 17);
  EXPECT_EQ(mapped_row(RowMapping::up, 9), 25);
  EXPECT_EQ(mapped_row(RowMapping::plain, 9), 9);
}

TEST(LoraRuns, AreCutToWhatABlockTakes) {
  const LoraRun runs[] = {{0, 3, 1}, {3, 0, 2}, {5, 33, 0}};
  const std::vector<LoraRun> pieces = cut_lora_runs(runs);
  ASSERT_EQ(pieces.size(), 4u);
  EXPECT_EQ(pieces[0].num_rows, 3);
  EXPECT_EQ(pieces[1].first_row, 5);
  EXPECT_EQ(pieces[2].first_row, 21);
  EXPECT_EQ(pieces[3].first_row, 37);
  EXPECT_EQ(pieces[3].num_rows, 1);
  EXPECT_EQ(pieces[3].adapter, 0);
}

}  // namespace
}  // namespace autoglm::cuda
