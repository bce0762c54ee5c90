// Paged attention against float64, on random ragged steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "attention_fixture.h"

namespace autoglm::test {
namespace {

StepShape random_shape(Random& random) {
  const int64_t groups[] = {1, 2, 3, 4, 7, 8, 12, 20};
  const int64_t windows[] = {0, 0, 0, 1, 16, 50, 256, 300};
  StepShape shape;
  shape.head_dim = random.below(3) == 0 ? 128 : 64;
  shape.group = groups[random.below(8)];
  shape.num_kv_heads = 1 + random.below(2);
  shape.peak = random.below(2) == 0 ? 1.0f : 12.0f;
  shape.is_causal = random.below(5) != 0;
  if (shape.is_causal) shape.sliding_window = windows[random.below(8)];
  if (random.below(4) == 0) shape.soft_cap = 5;
  return shape;
}

// Lengths at and around the borders of pages, blocks and splits, and any others.
int64_t random_length(Random& random) {
  const int64_t edges[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 320, 511, 512, 513};
  return random.below(2) == 0 ? edges[random.below(17)] : 1 + random.below(300);
}

TEST(CudaAttention, DecodeAgreesWithFloat64OnRandomShapes) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(4000 + i);
    const StepShape shape = random_shape(random);
    Step step;
    const int64_t num_sequences = 1 + random.below(3);
    for (int64_t each = 0; each < num_sequences; ++each) {
      const int64_t most = std::max<int64_t>(1, cuda::kMaxDecodedPairs / shape.group);
      const int64_t count = random.below(8) == 0 ? 0 : 1 + random.below(std::min<int64_t>(most, 5));
      add_sequence(step, shape, random, random_length(random) - 1, count);
    }
    finish_step(step, shape, random);
    EXPECT_TRUE(attend(step, shape, schedule_of(i)));
    EXPECT_LE(largest_distance(step, shape), kBf16Tolerance);
  }
}

TEST(CudaAttention, PrefillAgreesWithFloat64OnRandomShapes) {
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(5000 + i);
    const StepShape shape = random_shape(random);
    Step step;
    const int64_t fewest = cuda::kMaxDecodedPairs / shape.group + 1;
    const int64_t start = random.below(3) == 0 ? random_length(random) - 1 : random.below(40);
    add_sequence(step, shape, random, start, fewest + random.below(70 / shape.group + 1));
    if (random.below(2) == 0) add_sequence(step, shape, random, random.below(70), random.below(3));
    finish_step(step, shape, random);
    EXPECT_TRUE(attend(step, shape, schedule_of(i)));
    EXPECT_LE(largest_distance(step, shape), kBf16Tolerance);
  }
}

// Goal: a token's bits depend on its own sequence alone. Method: the tokens of one prompt chunk, which the
// prefill kernel computes together, once more one by one with the decode kernel, over the same pages.
TEST(CudaAttention, ATokenHasTheSameBitsWhenPrefilledAndWhenDecoded) {
  for (const int64_t window : {0, 100}) {
    Random random(6000);
    StepShape shape;
    shape.head_dim = 64;
    shape.group = 3;
    shape.num_kv_heads = 2;
    shape.peak = 4;
    shape.sliding_window = window;
    Step step;
    add_sequence(step, shape, random, 500, 30);
    finish_step(step, shape, random);
    EXPECT_TRUE(attend(step, shape, {emulator::Order::random, 1}));
    Step alone = step;
    alone.args.q = alone.q.data();
    alone.args.pages = alone.pages.data();
    alone.args.page_tables = alone.page_tables.data();
    alone.args.out = alone.out.data();
    std::ranges::fill(alone.out, cuda::Bf16{0xffff});
    alone.slices.clear();
    alone.table_offsets.assign(30, 0);
    for (int64_t token = 0; token < 30; ++token) alone.slices.push_back({nullptr, token, 500 + token, 1});
    EXPECT_TRUE(attend(alone, shape, {emulator::Order::warps_descending, 0}));
    EXPECT_EQ(std::memcmp(alone.out.data(), step.out.data(), step.out.size() * 2), 0);
  }
}

TEST(CudaAttentionPlan, CutsSlicesAtAbsolutePositions) {
  const SequenceSlice slices[] = {
      {nullptr, 0, 599, 1}, {nullptr, 1, 0, 0}, {nullptr, 1, 300, 9}, {nullptr, 10, 0, 50}};
  const int64_t tables[] = {0, 100, 200, 300};
  const cuda::AttentionPlan plan = cuda::plan_attention(slices, tables, 4, true, 0);
  // 599: 600 keys in three splits. 300: 36 pairs are too many to decode: one prefill tile. 50 tokens: four.
  ASSERT_EQ(plan.decode.size(), 3u);
  EXPECT_EQ(plan.num_partials, 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.decode[i].first_key, 256 * i);
    EXPECT_EQ(plan.decode[i].end_key, std::min(256 * (i + 1), 600));
    EXPECT_EQ(plan.decode[i].num_splits, 3);
  }
  ASSERT_EQ(plan.prefill.size(), 5u);
  EXPECT_EQ(plan.prefill[0].end_key, 309);
  EXPECT_EQ(plan.prefill[1].end_key, 50) << "pairs 192 .. 199 are tokens 48 and 49";
  EXPECT_EQ(plan.prefill[4].end_key, 16);
  EXPECT_EQ(plan.prefill[4].page_table, 300);
}

TEST(CudaAttentionPlan, AWindowSkipsSplitsThatNobodySees) {
  const SequenceSlice slice{nullptr, 0, 1000, 2};
  const int64_t table = 0;
  const cuda::AttentionPlan plan = cuda::plan_attention({&slice, 1}, {&table, 1}, 1, true, 490);
  // The first token sees keys 511 and on: split 256 .. 511 counts, split 0 .. 255 does not.
  ASSERT_EQ(plan.decode.size(), 3u);
  EXPECT_EQ(plan.decode[0].first_key, 256);
  EXPECT_EQ(plan.decode[2].end_key, 1002);
}

}  // namespace
}  // namespace autoglm::test
