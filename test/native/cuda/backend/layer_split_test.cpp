#include "model/gpu/layer_split.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace autoglm::gpu {
namespace {

const std::vector<LayerCost> kLayers(4, {.weight_bytes = 100, .page_bytes = 2});
constexpr DeviceBudget kBudget{.free_bytes = 1000,
                               .reserve_bytes = 10,
                               .scratch_bytes = 20,
                               .embedding_bytes = 50,
                               .head_bytes = 40,
                               .num_pages = 5};

DeviceBudget with_free(int64_t free_bytes) {
  DeviceBudget budget = kBudget;
  budget.free_bytes = free_bytes;
  return budget;
}

TEST(LayerSplit, TakesAllLayersWhereTheyFitToTheByte) {
  const int64_t all = 10 + 20 + 50 + 40 + 4 * (100 + 2 * 5);
  EXPECT_EQ(split_layers(kLayers, with_free(all), GpuSide::first), (LayerSplit{0, 4}));
  EXPECT_EQ(split_layers(kLayers, with_free(all), GpuSide::last), (LayerSplit{0, 4}));
  EXPECT_EQ(split_layers(kLayers, with_free(all - 1), GpuSide::first), (LayerSplit{0, 3}));
}

TEST(LayerSplit, CountsTheEmbeddingOnOneSideAndTheHeadOnTheOther) {
  EXPECT_EQ(split_layers(kLayers, with_free(10 + 20 + 50 + 110), GpuSide::first), (LayerSplit{0, 1}));
  EXPECT_EQ(split_layers(kLayers, with_free(10 + 20 + 50 + 109), GpuSide::first), (LayerSplit{0, 0}));
  EXPECT_EQ(split_layers(kLayers, with_free(10 + 20 + 40 + 110), GpuSide::last), (LayerSplit{3, 1}));
  EXPECT_EQ(split_layers(kLayers, with_free(10 + 20 + 40 + 109), GpuSide::last), (LayerSplit{4, 0}));
}

TEST(LayerSplit, GivesATiedHeadTheEmbeddingsMatrix) {
  DeviceBudget budget = with_free(10 + 20 + 50 + 110);
  budget.is_tied = true;
  budget.head_bytes = 0;
  EXPECT_EQ(split_layers(kLayers, budget, GpuSide::last), (LayerSplit{3, 1}));
  budget.free_bytes -= 1;
  EXPECT_EQ(split_layers(kLayers, budget, GpuSide::last).count, 0);
}

// Goal: what is chosen fits, and one layer more would not. Method: random costs, 2,000 budgets.
TEST(LayerSplit, IsTheLargestThatFits) {
  std::mt19937 random(5);
  const auto draw = [&](int64_t most) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(most));
  };
  for (int i = 0; i < 2'000; ++i) {
    std::vector<LayerCost> layers(1 + static_cast<size_t>(draw(12)));
    for (LayerCost& layer : layers) layer = {.weight_bytes = draw(500), .page_bytes = draw(9)};
    const DeviceBudget budget{.free_bytes = draw(6'000),
                              .reserve_bytes = draw(100),
                              .scratch_bytes = draw(100),
                              .embedding_bytes = draw(500),
                              .head_bytes = draw(500),
                              .is_tied = draw(2) == 1,
                              .num_pages = draw(40)};
    const auto num_layers = static_cast<int64_t>(layers.size());
    for (const GpuSide side : {GpuSide::first, GpuSide::last}) {
      const LayerSplit split = split_layers(layers, budget, side);
      ASSERT_LE(split_bytes(layers, budget, split), budget.free_bytes);
      ASSERT_EQ(side == GpuSide::first ? split.first : split.first + split.count,
                side == GpuSide::first ? 0 : num_layers);
      if (split.count == num_layers) continue;
      const LayerSplit larger{.first = side == GpuSide::first ? 0 : split.first - 1,
                              .count = split.count + 1};
      ASSERT_GT(split_bytes(layers, budget, larger), budget.free_bytes) << "case " << i;
    }
  }
}

}  // namespace
}  // namespace autoglm::gpu
