// Writing K and V into pages and attending over them, against float64 on every instruction set; and the
// promise that a token's bits depend on its own sequence alone.
#include "ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "back_ends.h"
#include "base/error.h"
#include "kv_fixture.h"
#include "ops/kv_append.h"
#include "ops/quantize_rows.h"

namespace autoglm::test {
namespace {

// One running sequence: all its q, k, v rows, and how many of them are in the pages.
struct Sequence {
  std::vector<float> q, k, v;  // [num_tokens][heads * dim]
  std::vector<int32_t> page_table;
  int64_t num_tokens = 0;
  int64_t num_done = 0;
};

class AttentionRun {
 public:
  AttentionRun(const BackEnd& back_end, const AttentionShape& shape, int num_threads, uint64_t seed)
      : shape_(shape),
        pool_(num_threads),
        execution_(pool_, *back_end.kernels),
        kv_(shape, 400),
        random_(seed) {}

  Sequence& add(int64_t num_tokens, uint64_t seed) {
    Random random(seed);
    Sequence& sequence = sequences_.emplace_back();
    sequence.num_tokens = num_tokens;
    // Large enough for peaked softmax: a wrong or missing key changes the result visibly.
    sequence.q = random.normals(num_tokens * shape_.num_q_heads * shape_.head_dim, 2);
    sequence.k = random.normals(num_tokens * shape_.num_kv_heads * shape_.head_dim);
    sequence.v = random.normals(num_tokens * shape_.num_kv_heads * shape_.value_dim);
    if (shape_.is_latent) sequence.v = last_dims(sequence.k);
    sequence.page_table = kv_.take(random_, num_tokens);
    return sequence;
  }

  // One step that advances sequence i by counts[i] tokens; appends the outputs to `outs[i]`.
  void step(const std::vector<int64_t>& counts, std::vector<std::vector<float>>& outs,
            int64_t scratch_factor = 4) {
    std::vector<SequenceSlice> slices;
    std::vector<float> q, k, v;
    int64_t num_rows = 0;
    const auto append = [](std::vector<float>& to, const std::vector<float>& from, int64_t first,
                           int64_t count) {
      to.insert(to.end(), from.begin() + first, from.begin() + first + count);
    };
    for (size_t i = 0; i < counts.size(); ++i) {
      Sequence& each = sequences_[i];
      const int64_t q_cols = shape_.num_q_heads * shape_.head_dim;
      const int64_t k_cols = shape_.num_kv_heads * shape_.head_dim;
      const int64_t v_cols = shape_.num_kv_heads * shape_.value_dim;
      slices.push_back({each.page_table.data(), num_rows, each.num_done, counts[i]});
      append(q, each.q, each.num_done * q_cols, counts[i] * q_cols);
      append(k, each.k, each.num_done * k_cols, counts[i] * k_cols);
      append(v, each.v, each.num_done * v_cols, counts[i] * v_cols);
      each.num_done += counts[i];
      num_rows += counts[i];
    }
    run(slices, q, k, v, num_rows, scratch_factor);
    const int64_t out_cols = shape_.num_q_heads * shape_.value_dim;
    outs.resize(counts.size());
    for (size_t i = 0; i < counts.size(); ++i) {
      append(outs[i], out_, slices[i].first_row * out_cols, counts[i] * out_cols);
    }
  }

  // Everything computed so far against the reference. Tolerance: weights are products of f32 functions good
  // to 4e-7 whose exponents lose |score| * 2^-22 from chains of head_dim roundings; outputs are averages of
  // values below 6. int8 pages also round weights to 15 bits of the largest in a block: 64 errors of up to
  // 2^-16, of which 8 add up, times values of up to 4.
  void expect_reference(const std::vector<std::vector<float>>& outs) const {
    const double tolerance = shape_.dtype == KvDtype::int8 ? 5e-4 : 1e-4;
    for (size_t i = 0; i < outs.size(); ++i) {
      const Sequence& each = sequences_[i];
      for (int64_t head = 0; head < shape_.num_q_heads; ++head) {
        const int64_t kv_head = head / (shape_.num_q_heads / shape_.num_kv_heads);
        const std::vector<float> k = stored_head(each.k, kv_head, shape_.head_dim);
        const std::vector<float> v = stored_head(each.v, kv_head, shape_.value_dim);
        for (int64_t token = 0; token < each.num_done; ++token) {
          const float* q = each.q.data() + (token * shape_.num_q_heads + head) * shape_.head_dim;
          const auto expected = reference_attention(shape_, q, token, k, v, each.num_done);
          for (int64_t col = 0; col < shape_.value_dim; ++col) {
            const float found = outs[i][(token * shape_.num_q_heads + head) * shape_.value_dim + col];
            ASSERT_NEAR(found, expected[col], tolerance)
                << "sequence " << i << ", token " << token << ", head " << head << ", column " << col;
          }
        }
      }
    }
  }

  const std::vector<Sequence>& sequences() const { return sequences_; }

 private:
  // The part of latents that is their value.
  std::vector<float> last_dims(const std::vector<float>& k) const {
    std::vector<float> out;
    for (size_t first = 0; first < k.size(); first += static_cast<size_t>(shape_.head_dim)) {
      const auto end = k.begin() + static_cast<int64_t>(first) + shape_.head_dim;
      out.insert(out.end(), end - shape_.value_dim, end);
    }
    return out;
  }

  std::vector<float> stored_head(const std::vector<float>& rows, int64_t head, int64_t dim) const {
    std::vector<float> out;
    const int64_t cols = shape_.num_kv_heads * dim;
    for (int64_t token = 0; token < static_cast<int64_t>(rows.size()) / cols; ++token) {
      const std::vector<float> stored = as_stored(shape_.dtype, rows.data() + token * cols + head * dim, dim);
      out.insert(out.end(), stored.begin(), stored.end());
    }
    return out;
  }

  void run(const std::vector<SequenceSlice>& slices, const std::vector<float>& q, const std::vector<float>& k,
           const std::vector<float>& v, int64_t num_rows, int64_t scratch_factor) {
    const int64_t q_cols = shape_.num_q_heads * shape_.head_dim;
    std::vector<float> prepared(num_rows * q_cols, NAN);
    KvAppendParams append;
    append.q = TensorView<const float>(q.data(), num_rows, q_cols);
    append.k = TensorView<const float>(k.data(), num_rows, shape_.num_kv_heads * shape_.head_dim);
    if (!shape_.is_latent) {
      append.v = TensorView<const float>(v.data(), num_rows, shape_.num_kv_heads * shape_.value_dim);
    }
    append.num_q_heads = shape_.num_q_heads;
    append.q_scale = query_scale(shape_.scale, shape_.soft_cap);
    append.q_out = TensorView<float>(prepared.data(), num_rows, q_cols);
    append.kv = kv_.pages();
    KvAppendPlan append_plan;
    append_plan.build(slices);
    append_kv(execution_, append_plan, append);
    std::vector<float> scratch(scratch_factor *
                               attention_scratch_floats(num_rows, shape_.num_q_heads, shape_.value_dim));
    AttentionPlan plan;
    plan.build(slices, shape_.num_q_heads, shape_.num_kv_heads, shape_.value_dim,
               static_cast<int64_t>(scratch.size()), pool_.num_threads());
    out_.assign(num_rows * shape_.num_q_heads * shape_.value_dim, NAN);
    AttentionParams params;
    params.q = append.q_out;
    params.num_q_heads = shape_.num_q_heads;
    params.kv = kv_.pages();
    params.is_causal = shape_.is_causal;
    params.sliding_window = shape_.sliding_window;
    params.soft_cap = shape_.soft_cap;
    params.out = TensorView<float>(out_.data(), num_rows, shape_.num_q_heads * shape_.value_dim);
    attention(execution_, plan, params, scratch);
  }

  AttentionShape shape_;
  ThreadPool pool_;
  Execution execution_;
  KvPool kv_;
  Random random_;
  std::vector<Sequence> sequences_;
  std::vector<float> out_;
};

class Attention : public testing::TestWithParam<BackEnd> {};

INSTANTIATE_TEST_SUITE_P(Isa, Attention, testing::ValuesIn(back_ends()),
                         back_end_name<testing::TestParamInfo<BackEnd>>);

// Goal: every kind of attention is right over ragged lengths, with stale pages full of NaNs around it.
TEST_P(Attention, EqualsFloat64ForEveryKind) {
  const AttentionShape shapes[] = {
      {},
      {.num_q_heads = 4, .num_kv_heads = 4, .head_dim = 16, .value_dim = 16, .dtype = KvDtype::f32},
      {.num_q_heads = 8, .num_kv_heads = 2, .head_dim = 32, .value_dim = 40, .sliding_window = 50},
      {.num_q_heads = 6, .num_kv_heads = 1, .head_dim = 80, .value_dim = 80, .soft_cap = 20},
      {.num_q_heads = 2,
       .num_kv_heads = 2,
       .head_dim = 6,
       .value_dim = 10,
       .dtype = KvDtype::f32,
       .scale = 0.4f},
      {.num_q_heads = 5,
       .num_kv_heads = 1,
       .head_dim = 24,
       .value_dim = 24,
       .dtype = KvDtype::f32,
       .sliding_window = 300},
      {.num_q_heads = 7, .num_kv_heads = 1, .head_dim = 48, .value_dim = 32, .is_latent = true},
      {.num_q_heads = 6,
       .num_kv_heads = 2,
       .head_dim = 80,
       .value_dim = 80,
       .dtype = KvDtype::f32,
       .is_latent = true},
      {.num_q_heads = 9, .num_kv_heads = 3, .dtype = KvDtype::int8},
      {.num_q_heads = 8,
       .num_kv_heads = 2,
       .head_dim = 32,
       .value_dim = 40,
       .dtype = KvDtype::int8,
       .sliding_window = 50},
      {.num_q_heads = 6,
       .num_kv_heads = 1,
       .head_dim = 80,
       .value_dim = 80,
       .dtype = KvDtype::int8,
       .soft_cap = 20},
      {.num_q_heads = 2,
       .num_kv_heads = 2,
       .head_dim = 6,
       .value_dim = 10,
       .dtype = KvDtype::int8,
       .scale = 0.4f},
  };
  uint64_t seed = 31;
  for (const AttentionShape& shape : shapes) {
    SCOPED_TRACE("head dim " + std::to_string(shape.head_dim));
    AttentionRun run(GetParam(), shape, 2, seed);
    run.add(330, ++seed);
    run.add(17, ++seed);
    run.add(80, ++seed);
    std::vector<std::vector<float>> outs;
    run.step({300, 16, 1}, outs);
    run.step({1, 1, 70}, outs);
    run.step({29, 0, 9}, outs);
    run.expect_reference(outs);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(Attention, EqualsFloat64WhenNotCausal) {
  for (const KvDtype dtype : {KvDtype::bf16, KvDtype::int8}) {
    SCOPED_TRACE(info_of(dtype).name);
    const AttentionShape shape = {.num_q_heads = 4,
                                  .num_kv_heads = 2,
                                  .head_dim = 32,
                                  .value_dim = 32,
                                  .dtype = dtype,
                                  .is_causal = false};
    AttentionRun run(GetParam(), shape, 2, 41);
    run.add(90, 42);
    run.add(5, 43);
    std::vector<std::vector<float>> outs;
    run.step({90, 5}, outs);
    run.expect_reference(outs);
  }
}

// Goal: batching, chunking, split tasks, scratch size and threads are invisible bit for bit.
// Method: 330 tokens, more than one split of 256, in one chunk on one thread against chunks of other sizes,
// mixed with other sequences.
TEST_P(Attention, GivesATokenTheSameBitsHoweverTheStepsAreCut) {
  const AttentionShape shapes[] = {
      {.num_q_heads = 6, .num_kv_heads = 2, .head_dim = 32, .value_dim = 48},
      {.num_q_heads = 6, .num_kv_heads = 2, .head_dim = 32, .value_dim = 48, .dtype = KvDtype::f32},
      {.num_q_heads = 6, .num_kv_heads = 2, .head_dim = 32, .value_dim = 48, .dtype = KvDtype::int8},
      {.num_q_heads = 7, .num_kv_heads = 1, .head_dim = 48, .value_dim = 32, .is_latent = true},
      // So many heads that a chunk of one thread gets two splits.
      {.num_q_heads = 8, .num_kv_heads = 8, .head_dim = 8, .value_dim = 8}};
  for (const AttentionShape& shape : shapes) {
    AttentionRun whole(GetParam(), shape, 1, 51);
    whole.add(330, 52);
    std::vector<std::vector<float>> expected;
    whole.step({330}, expected, 1);
    for (const int64_t chunk : {1, 7, 64, 200}) {
      SCOPED_TRACE("chunks of " + std::to_string(chunk));
      AttentionRun cut(GetParam(), shape, chunk == 7 ? 1 : 3, 53);
      cut.add(330, 52);
      cut.add(400, 54);
      std::vector<std::vector<float>> outs;
      // Decoding token by token is slow here: begin with one chunk, then cut.
      const int64_t first = chunk == 1 ? 300 : 0;
      if (first > 0) cut.step({first, 100}, outs);
      for (int64_t done = first; done < 330; done += chunk) cut.step({std::min(chunk, 330 - done), 1}, outs);
      ASSERT_EQ(outs[0].size(), expected[0].size());
      ASSERT_EQ(std::memcmp(outs[0].data(), expected[0].data(), expected[0].size() * sizeof(float)), 0);
    }
  }
}

TEST_P(Attention, QuantizesItsOutputAsAStageOfItsOwnWould) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  // Heads of 24 values: groups of 32 straddle them.
  const AttentionShape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim = 16, .value_dim = 24};
  KvPool kv(shape, 8);
  Random random(61);
  const std::vector<int32_t> table = kv.take(random, 40);
  const std::vector<float> q = random.normals(40 * 64), k = random.normals(40 * 32),
                           v = random.normals(40 * 48);
  std::vector<float> prepared(40 * 64), out(40 * 96);
  const SequenceSlice slice = {table.data(), 0, 0, 40};
  KvAppendParams append;
  append.q = TensorView<const float>(q.data(), 40, 64);
  append.k = TensorView<const float>(k.data(), 40, 32);
  append.v = TensorView<const float>(v.data(), 40, 48);
  append.num_q_heads = 4;
  append.q_out = TensorView<float>(prepared.data(), 40, 64);
  append.kv = kv.pages();
  KvAppendPlan append_plan;
  append_plan.build({&slice, 1});
  append_kv(execution, append_plan, append);
  std::vector<float> scratch(attention_scratch_floats(40, 4, 24));
  AttentionPlan plan;
  plan.build({&slice, 1}, 4, 2, 24, static_cast<int64_t>(scratch.size()), 2);
  AlignedBytes memory(quantized_rows_bytes(40, 96)), again_memory(quantized_rows_bytes(40, 96));
  AttentionParams params;
  params.q = append.q_out;
  params.num_q_heads = 4;
  params.kv = kv.pages();
  params.out = TensorView<float>(out.data(), 40, 96);
  params.quantized = make_quantized_rows(40, 96, memory.bytes());
  attention(execution, plan, params, scratch);
  const QuantizedRows again = make_quantized_rows(40, 96, again_memory.bytes());
  quantize_rows(execution, params.out, again);
  EXPECT_EQ(std::memcmp(params.quantized.values, again.values, 40 * 96), 0);
  EXPECT_EQ(std::memcmp(params.quantized.groups, again.groups, 120 * sizeof(ActivationGroup)), 0);
}

// Goal: norm, rope and scale of q and k, read back from q_out and from f32 pages, for both pairings of dims.
TEST_P(Attention, AppendingNormsAndRotatesHeads) {
  ThreadPool pool(2);
  const Execution execution(pool, *GetParam().kernels);
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::half_split}) {
    const AttentionShape shape = {
        .num_q_heads = 2, .num_kv_heads = 1, .head_dim = 40, .value_dim = 8, .dtype = KvDtype::f32};
    constexpr int64_t kRotary = 24, kRows = 20, kStart = 5;
    KvPool kv(shape, 4);
    Random random(71);
    const std::vector<int32_t> table = kv.take(random, kStart + kRows);
    const auto q = random.normals(kRows * 80), k = random.normals(kRows * 40), v = random.normals(kRows * 8);
    const auto q_norm = random.normals(40), k_norm = random.normals(40);
    std::vector<double> frequencies;
    for (int i = 0; i < kRotary / 2; ++i) frequencies.push_back(std::pow(10000.0, -2.0 * i / kRotary));
    std::vector<int32_t> positions;
    for (int i = 0; i < kRows; ++i) positions.push_back(static_cast<int32_t>(kStart + i));
    std::vector<float> angles(kRows * kRotary), prepared(kRows * 80);
    const SequenceSlice slice = {table.data(), 0, kStart, kRows};
    compute_rope_angles(execution, positions, frequencies, 1.25, {angles.data(), kRows, kRotary});
    KvAppendParams append;
    append.q = TensorView<const float>(q.data(), kRows, 80);
    append.k = TensorView<const float>(k.data(), kRows, 40);
    append.v = TensorView<const float>(v.data(), kRows, 8);
    append.num_q_heads = 2;
    append.qk_norm_epsilon = 1e-6f;
    append.q_norm = q_norm.data();
    append.k_norm = k_norm.data();
    append.rope_style = style;
    append.rotary_dim = kRotary;
    append.rope = TensorView<const float>(angles.data(), kRows, kRotary);
    append.q_scale = 0.3f;
    append.q_out = TensorView<float>(prepared.data(), kRows, 80);
    append.kv = kv.pages();
    KvAppendPlan append_plan;
    append_plan.build({&slice, 1});
    append_kv(execution, append_plan, append);

    const auto expected_head = [&](const float* in, const std::vector<float>& weight, int64_t position) {
      double squares = 0;
      for (int i = 0; i < 40; ++i) squares += double{in[i]} * in[i];
      std::vector<double> head(40);
      for (int i = 0; i < 40; ++i) head[i] = in[i] / std::sqrt(squares / 40 + 1e-6) * weight[i];
      for (int i = 0; i < kRotary / 2; ++i) {
        const int first = style == RopeStyle::interleaved ? 2 * i : i;
        const int second = style == RopeStyle::interleaved ? 2 * i + 1 : i + kRotary / 2;
        const double angle = static_cast<double>(position) * frequencies[i];
        const double a = head[first], b = head[second];
        head[first] = 1.25 * (a * std::cos(angle) - b * std::sin(angle));
        head[second] = 1.25 * (b * std::cos(angle) + a * std::sin(angle));
      }
      return head;
    };
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t position = kStart + row;
      for (int64_t h = 0; h < 2; ++h) {
        const auto expected = expected_head(q.data() + row * 80 + h * 40, q_norm, position);
        for (int i = 0; i < 40; ++i) ASSERT_NEAR(prepared[row * 80 + h * 40 + i], 0.3 * expected[i], 1e-5);
      }
      const auto expected = expected_head(k.data() + row * 40, k_norm, position);
      const auto* keys = reinterpret_cast<const float*>(kv.pages().keys(table[position / 16], 0));
      const auto* values = reinterpret_cast<const float*>(kv.pages().values(table[position / 16], 0));
      for (int i = 0; i < 40; ++i)
        ASSERT_NEAR(keys[i * 16 + position % 16], expected[i], 1e-5) << "key " << i;
      for (int i = 0; i < 8; ++i) ASSERT_EQ(values[position % 16 * 16 + i], v[row * 8 + i]) << "value " << i;
    }
  }
}

// Goal: integers have no NaN, but a head that had one must show it, and no other sequence.
TEST_P(Attention, AHeadOfInt8KeysOrValuesWithANanGivesNans) {
  for (const bool is_value : {false, true}) {
    const AttentionShape shape = {.num_q_heads = 2, .num_kv_heads = 1, .dtype = KvDtype::int8};
    AttentionRun run(GetParam(), shape, 1, 81);
    Sequence& damaged = run.add(20, 82);
    (is_value ? damaged.v : damaged.k)[3 * 64 + 5] = NAN;
    run.add(20, 83);
    std::vector<std::vector<float>> outs;
    run.step({20, 20}, outs);
    const auto is_nan = [](float value) { return std::isnan(value); };
    EXPECT_TRUE(std::all_of(outs[0].begin() + 3 * 128, outs[0].end(), is_nan)) << "tokens that see it";
    EXPECT_TRUE(std::none_of(outs[1].begin(), outs[1].end(), is_nan)) << "another sequence";
  }
}

// And fp8, which only a GPU has.
TEST(AttentionChecks, RefusesLatentsAndHeadsOfTwoDimsAsInt8) {
  ThreadPool pool(1);
  const Execution execution(pool, Isa::plain);
  const std::vector<float> values(64, 1.0f);
  std::vector<float> out(64);
  for (const AttentionShape& shape :
       {AttentionShape{
            .num_q_heads = 1, .head_dim = 16, .value_dim = 16, .dtype = KvDtype::int8, .is_latent = true},
        AttentionShape{.num_q_heads = 1, .head_dim = 2, .value_dim = 2, .dtype = KvDtype::int8},
        AttentionShape{.num_q_heads = 1, .head_dim = 16, .value_dim = 16, .dtype = KvDtype::fp8}}) {
    KvPool kv(shape, 1);
    const int32_t page = 0;
    const SequenceSlice slice = {&page, 0, 0, 1};
    KvAppendParams append;
    append.q = append.k = append.v = TensorView<const float>(values.data(), 1, shape.head_dim);
    append.num_q_heads = 1;
    append.q_out = TensorView<float>(out.data(), 1, shape.head_dim);
    append.kv = kv.pages();
    KvAppendPlan append_plan;
    append_plan.build({&slice, 1});
    EXPECT_THROW(append_kv(execution, append_plan, append), Error);
  }
}

TEST(AttentionChecks, RefusesPagesOutsideThePoolAndTooLittleScratch) {
  ThreadPool pool(1);
  const Execution execution(pool, Isa::plain);
  const AttentionShape shape = {.num_q_heads = 1, .num_kv_heads = 1, .head_dim = 4, .value_dim = 4};
  KvPool kv(shape, 2);
  std::vector<float> values(64, 1.0f), out(64);
  const int32_t bad_page = 2;
  const SequenceSlice slice = {&bad_page, 0, 0, 3};
  KvAppendParams append;
  append.q = append.k = append.v = TensorView<const float>(values.data(), 3, 4);
  append.num_q_heads = 1;
  append.q_out = TensorView<float>(out.data(), 3, 4);
  append.kv = kv.pages();
  KvAppendPlan append_plan;
  append_plan.build({&slice, 1});
  EXPECT_THROW(append_kv(execution, append_plan, append), Error);
  AttentionPlan plan;
  EXPECT_THROW(plan.build({&slice, 1}, 1, 1, 4, attention_scratch_floats(2, 1, 4), 1), Error);
  EXPECT_THROW(plan.build({&slice, 1}, 3, 2, 4, 1 << 20, 1), Error) << "heads that cannot be shared evenly";
}

}  // namespace
}  // namespace autoglm::test
