// Paged attention against float64, on random ragged steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "attention_fixture.h"

namespace autoglm::test {
namespace {

constexpr int kHeadDims[] = {
#define AUTOGLM_HEAD_DIM(dim) dim,
#include "cuda/attention/head_dims.def"
#undef AUTOGLM_HEAD_DIM
};
constexpr std::pair<int, int> kLatents[] = {
#define AUTOGLM_LATENT(dim, value_dim) {dim, value_dim},
#include "cuda/attention/head_dims.def"
#undef AUTOGLM_LATENT
};
constexpr cuda::KvType kKvTypes[] = {cuda::KvType::bf16, cuda::KvType::int8, cuda::KvType::fp8};

// The heads of `shape` number `index`: every instance in turn.
void set_heads(StepShape& shape, int index) {
  constexpr int kNumDense = 3 * std::size(kHeadDims);
  const int instance = index % (kNumDense + static_cast<int>(std::size(kLatents)));
  if (instance < kNumDense) {
    shape.head_dim = shape.value_dim = kHeadDims[instance / 3];
    shape.kv_type = kKvTypes[instance % 3];
  } else {
    const auto& [dim, value_dim] = kLatents[instance - kNumDense];
    shape.head_dim = dim;
    shape.value_dim = value_dim;
  }
}

StepShape random_shape(Random& random, int index) {
  const int64_t groups[] = {1, 2, 3, 4, 7, 8, 12, 20};
  const int64_t windows[] = {0, 0, 0, 1, 16, 50, 256, 300};
  StepShape shape;
  // Sanitized, few shapes run: steps through the list that still meet all of its kinds.
  set_heads(shape, emulator::kIsSanitized ? 7 * index : index);
  shape.group = groups[random.below(8)];
  shape.num_kv_heads = shape.is_latent() ? 1 : 1 + random.below(2);
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
    const StepShape shape = random_shape(random, i);
    Step step;
    const int64_t num_sequences = 1 + random.below(2);
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
    const StepShape shape = random_shape(random, i);
    Step step;
    const int64_t fewest = std::max<int64_t>(2, cuda::kMaxDecodedPairs / shape.group + 1);
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
void expect_same_bits(const StepShape& shape, int64_t start) {
  Random random(6000);
  Step step;
  const int64_t count = 48 / shape.group + 1;
  add_sequence(step, shape, random, start, count);
  finish_step(step, shape, random);
  EXPECT_TRUE(attend(step, shape, {emulator::Order::random, 1}));
  Step alone = step;
  point_at_buffers(alone);
  std::ranges::fill(alone.out, cuda::Bf16{0xffff});
  alone.slices.clear();
  alone.table_offsets.assign(static_cast<size_t>(count), 0);
  for (int64_t token = 0; token < count; ++token) alone.slices.push_back({nullptr, token, start + token, 1});
  EXPECT_TRUE(attend(alone, shape, {emulator::Order::warps_descending, 0}));
  EXPECT_EQ(std::memcmp(alone.out.data(), step.out.data(), step.out.size() * 2), 0);
}

TEST(CudaAttention, ATokenHasTheSameBitsWhenPrefilledAndWhenDecoded) {
  const int num_instances = emulator::kIsSanitized ? 1 : 33;
  for (int i = 0; i < num_instances; ++i) {
    SCOPED_TRACE("instance " + std::to_string(i));
    StepShape shape;
    set_heads(shape, i);
    shape.group = shape.is_latent() ? 20 : 6;
    shape.peak = 4;
    shape.sliding_window = i % 2 == 0 ? 0 : 100;
    expect_same_bits(shape, i % 4 == 0 ? 500 : 250);
  }
}

// A step recorded in a graph is launched with the grid of its bucket, whatever work there is.
TEST(CudaAttention, BlocksWithoutWorkChangeNothing) {
  for (int i = 0; i < 33; i += emulator::kIsSanitized ? 24 : 8) {
    Random random(6500 + i);
    StepShape shape;
    set_heads(shape, i);
    shape.group = 5;
    Step step;
    add_sequence(step, shape, random, 270, 2);
    add_sequence(step, shape, random, 0, 9);
    finish_step(step, shape, random);
    EXPECT_TRUE(attend(step, shape, schedule_of(i)));
    const std::vector<cuda::Bf16> expected = step.out;
    std::ranges::fill(step.out, cuda::Bf16{0xffff});
    EXPECT_TRUE(attend(step, shape, schedule_of(i), {}, 3));
    EXPECT_EQ(std::memcmp(step.out.data(), expected.data(), expected.size() * 2), 0);
  }
}

TEST(CudaAttentionLaunch, KnowsItsHeads) {
  EXPECT_TRUE(cuda::has_attention(80, 80, cuda::KvType::fp8, false));
  EXPECT_TRUE(cuda::has_attention(576, 512, cuda::KvType::bf16, true));
  EXPECT_FALSE(cuda::has_attention(576, 512, cuda::KvType::int8, true));
  EXPECT_FALSE(cuda::has_attention(88, 88, cuda::KvType::bf16, false));
  cuda::AttentionArgs args{.num_q_heads = 16, .num_kv_heads = 2, .head_dim = 256, .value_dim = 256};
  EXPECT_EQ(cuda::decode_launch(args).kernel, nullptr) << "no work, no launch";
  args.num_work = 3;
  EXPECT_STREQ(cuda::decode_launch(args).kernel, "attention_decode_bf16_256");
  EXPECT_EQ(cuda::decode_launch(args).num_threads, 128u);
  EXPECT_STREQ(cuda::prefill_launch(args).kernel, "attention_prefill_bf16_256");
  EXPECT_EQ(cuda::prefill_launch(args).num_threads, 256u) << "two tiles of 16 pairs, four warps each";
  EXPECT_EQ(cuda::prefill_launch(args).grid_x, 3u);
  EXPECT_EQ(cuda::prefill_launch(args).grid_y, 2u);
}

TEST(CudaAttentionPlan, CutsSlicesAtAbsolutePositions) {
  const SequenceSlice slices[] = {
      {nullptr, 0, 599, 1}, {nullptr, 1, 0, 0}, {nullptr, 1, 300, 9}, {nullptr, 10, 0, 50}};
  const int64_t tables[] = {0, 100, 200, 300};
  const cuda::AttentionPlan plan = cuda::plan_attention(slices, tables, {.heads_per_group = 4});
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

TEST(CudaAttentionPlan, OneTokenIsDecodedHoweverManyHeadsItHas) {
  const SequenceSlice slice{nullptr, 0, 999, 1};
  const int64_t table = 0;
  const cuda::AttentionPlan plan =
      cuda::plan_attention({&slice, 1}, {&table, 1}, {.heads_per_group = 128, .prefill_pairs = 16});
  EXPECT_EQ(plan.decode.size(), 8u * 4u) << "8 tiles of 16 heads, 4 splits of 256 keys";
  EXPECT_TRUE(plan.prefill.empty());
}

TEST(CudaAttentionPlan, AWindowSkipsSplitsThatNobodySees) {
  const SequenceSlice slice{nullptr, 0, 1000, 2};
  const int64_t table = 0;
  const cuda::AttentionPlan plan = cuda::plan_attention({&slice, 1}, {&table, 1}, {.sliding_window = 490});
  // The first token sees keys 511 and on: split 256 .. 511 counts, split 0 .. 255 does not.
  ASSERT_EQ(plan.decode.size(), 3u);
  EXPECT_EQ(plan.decode[0].first_key, 256);
  EXPECT_EQ(plan.decode[2].end_key, 1002);
}

}  // namespace
}  // namespace autoglm::test
