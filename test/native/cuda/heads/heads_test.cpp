// Products and copies of heads against float64, on random shapes and every schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "cuda/heads/copy_heads.h"
#include "cuda/heads/heads_tile.h"
#include "heads_fixture.h"

namespace autoglm::test {
namespace {

HeadsShape random_shape(Random& random) {
  const int64_t rows[] = {0, 1, 2, 15, 16, 17, 32, 33, 63, 64, 65, 80};
  const int64_t sizes[] = {8, 16, 24, 32, 40, 64, 72, 128, 136, 192};
  return {.rows = rows[random.below(12)],
          .heads = 1 + random.below(3),
          .n = sizes[random.below(8)],
          .k = random.below(8) == 0 ? 512 : sizes[random.below(10)],
          .is_f32_in = random.below(2) == 0,
          .is_f32_out = random.below(2) == 0,
          .in_gap = 8 * random.below(3),
          .out_gap = 2 * random.below(9)};
}

TEST(CudaHeadsProduct, AgreesWithFloat64OnRandomShapes) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(100 + shape);
    HeadsCase test(random_shape(random), random);
    EXPECT_LE(test.largest_distance(test.run(schedule_of(shape))), kBf16Tolerance);
  }
}

// A row alone, in the tile for few rows and in the one for many.
TEST(CudaHeadsProduct, GivesARowTheSameBitsInAnyBatch) {
  for (int shape = 0; shape < 20; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(500 + shape);
    HeadsShape of_case = random_shape(random);
    of_case.rows = 70;
    of_case.is_f32_out = true;
    of_case.out_gap = 0;
    HeadsCase test(of_case, random);
    const std::vector<float> all = test.run(schedule_of(shape));
    const int64_t width = of_case.heads * of_case.n;
    const int64_t first = random.below(38);
    const std::vector<float> few = test.run(schedule_of(shape + 1), nullptr, first, 32);
    EXPECT_TRUE(std::equal(few.begin(), few.end(), all.begin() + first * width));
    const std::vector<float> alone = test.run(schedule_of(shape + 2), nullptr, 69, 1);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + 69 * width));
  }
}

TEST(CudaHeadsProduct, ChoosesTheTileByTheRows) {
  const float in = 0;
  cuda::HeadsProductArgs args;
  args.in = &in;
  args.num_heads = 3;
  args.n = 72;
  args.k = 64;
  args.num_rows = 32;
  EXPECT_STREQ(heads_product_launch(args).kernel, "heads_product_few_f32");
  EXPECT_EQ(heads_product_launch(args).grid_x, 9u);
  EXPECT_EQ(heads_product_launch(args).grid_y, 2u);
  args.in = nullptr;
  args.num_rows = 65;
  EXPECT_STREQ(heads_product_launch(args).kernel, "heads_product_many_bf16");
  EXPECT_EQ(heads_product_launch(args).grid_x, 6u);
  EXPECT_EQ(heads_product_launch(args).grid_y, 2u);
  args.num_rows = 0;
  EXPECT_EQ(heads_product_launch(args).kernel, nullptr);
}

template <int kDepth>
void expect_no_conflicts() {
  std::set<int> places;
  for (int row = 0; row < 16; ++row) {
    for (int chunk = 0; chunk < kDepth / cuda::kHeadsChunk; ++chunk) {
      places.insert(cuda::chunk_offset<kDepth>(row, chunk));
    }
  }
  EXPECT_EQ(places.size(), static_cast<size_t>(2 * kDepth));
  EXPECT_EQ(*places.rbegin(), 16 * kDepth - cuda::kHeadsChunk);
  for (int chunk = 0; chunk < kDepth / cuda::kHeadsChunk; ++chunk) {
    std::set<int> bank_groups;
    for (int row = 8; row < 16; ++row) bank_groups.insert(cuda::chunk_offset<kDepth>(row, chunk) / 8 % 8);
    EXPECT_EQ(bank_groups.size(), 8u) << "chunk " << chunk;
  }
}

TEST(CudaHeadsProduct, ReadsEachMatrixFromDifferentBanks) {
  expect_no_conflicts<64>();
  expect_no_conflicts<128>();
}

// Columns [first, first + count) of each head of `in` to columns [to, ..) of `out`; the rest stays as it is.
TEST(CudaCopyHeads, CopiesColumnsBetweenLayouts) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(900 + shape);
    const int64_t step = random.below(2) == 0 ? 4 : 1;
    const int64_t rows = random.below(5);
    const int64_t heads = 1 + random.below(6);
    const int64_t count = step * random.below(step == 4 ? 40 : 70);
    const int64_t first = step * random.below(9);
    const int64_t to = step * random.below(9);
    const int64_t in_cols = first + count + step * random.below(5);
    const int64_t out_cols = to + count + step * random.below(5);
    const std::vector<float> values = random.normals(rows * heads * in_cols);
    AlignedVector<float> in(values);
    AlignedVector<cuda::Bf16> in_bf16(to_bf16s(values));
    const std::vector<float> nothing(rows * heads * out_cols, NAN);
    AlignedVector<float> out(nothing);
    AlignedVector<cuda::Bf16> out_bf16(to_bf16s(nothing));
    const bool is_f32_in = random.below(2) == 0;
    const bool is_f32_out = random.below(2) == 0;
    cuda::CopyHeadsArgs args;
    if (is_f32_in) {
      args.in = in.data() + first;
    } else {
      args.in_bf16 = in_bf16.data() + first;
    }
    if (is_f32_out) {
      args.out = out.data() + to;
    } else {
      args.out_bf16 = out_bf16.data() + to;
    }
    args.in_row_stride = heads * in_cols;
    args.in_head_stride = in_cols;
    args.out_row_stride = heads * out_cols;
    args.out_head_stride = out_cols;
    args.num_rows = static_cast<int32_t>(rows);
    args.num_heads = static_cast<int32_t>(heads);
    args.count = static_cast<int32_t>(count);
    launch(copy_heads_launch(args), args, schedule_of(shape));
    int64_t num_wrong = 0;
    for (int64_t i = 0; i < rows * heads * out_cols; ++i) {
      const float found = is_f32_out ? out.data()[i] : to_float(out_bf16.data()[i]);
      const int64_t col = i % out_cols - to;
      if (col < 0 || col >= count) {
        num_wrong += std::isnan(found) ? 0 : 1;
        continue;
      }
      const float value = values[i / out_cols * in_cols + first + col];
      num_wrong += found == (is_f32_in && is_f32_out ? value : to_float(to_bf16(value))) ? 0 : 1;
    }
    EXPECT_EQ(num_wrong, 0);
  }
}

TEST(CudaCopyHeads, TakesFourColumnsAtOnceWhereAllAreAligned) {
  alignas(16) static const float in[8] = {};
  alignas(16) static float out[8];
  cuda::CopyHeadsArgs args;
  args.in = in;
  args.out = out;
  args.in_row_stride = args.in_head_stride = args.out_row_stride = args.out_head_stride = 8;
  args.num_rows = args.num_heads = 1;
  args.count = 4;
  EXPECT_STREQ(copy_heads_launch(args).kernel, "copy_heads_by_4");
  args.in = in + 1;
  EXPECT_STREQ(copy_heads_launch(args).kernel, "copy_heads_by_1");
  args.in = in;
  args.out_head_stride = 6;
  EXPECT_STREQ(copy_heads_launch(args).kernel, "copy_heads_by_1");
}

}  // namespace
}  // namespace autoglm::test
