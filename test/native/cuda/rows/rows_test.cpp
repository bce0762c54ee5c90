// Norm, rope with KV append, and embedding against float64, on random shapes and every schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/attention/page_layout.h"
#include "cuda/rows/embedding.h"
#include "cuda/rows/kv_append.h"
#include "cuda/rows/norm.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

std::vector<double> normed(const float* in, int64_t count, NormKind kind, double epsilon) {
  double mean = 0;
  for (int64_t i = 0; i < count; ++i) mean += kind == NormKind::layer ? double{in[i]} / count : 0;
  double variance = 0;
  for (int64_t i = 0; i < count; ++i) variance += (in[i] - mean) * (in[i] - mean) / count;
  std::vector<double> out;
  for (int64_t i = 0; i < count; ++i) out.push_back((in[i] - mean) / std::sqrt(variance + epsilon));
  return out;
}

TEST(CudaNorm, AgreesWithFloat64OnRandomShapes) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(1000 + shape);
    // Lengths around the block's stride as well as any; no rows, one row, several.
    const int64_t edges[] = {1, 2, 3, 4, 255, 256, 257, 1020, 1024, 1028, 2048};
    const int64_t cols = random.below(2) == 0 ? edges[random.below(11)] : 1 + random.below(1500);
    const int64_t rows = random.below(5);
    const int64_t in_rows = rows + random.below(3) + 1;
    cuda::NormArgs args;
    args.kind = random.below(2) == 0 ? NormKind::rms : NormKind::layer;
    args.epsilon = 1e-5f;
    args.has_unit_offset = random.below(2) == 0;
    args.num_rows = static_cast<int32_t>(rows);
    args.num_cols = static_cast<int32_t>(cols);
    std::vector<float> in = random.normals(in_rows * cols, 3);
    for (float& each : in) each += 1;
    const std::vector<float> weight = random.normals(cols);
    const std::vector<float> bias = random.normals(cols);
    const std::vector<float> residual = random.normals(rows * cols);
    std::vector<int32_t> gathered;
    for (int64_t row = 0; row < rows; ++row) gathered.push_back(static_cast<int32_t>(random.below(in_rows)));
    const bool gathers = random.below(2) == 0;
    args.in = in.data();
    args.weight = weight.data();
    if (gathers) args.input_rows = gathered.data();
    if (args.kind == NormKind::layer && random.below(2) == 0) args.bias = bias.data();
    if (random.below(2) == 0) args.residual = residual.data();
    args.residual_scale = 0.5f;
    std::vector<float> out(rows * cols, NAN);
    std::vector<cuda::Bf16> rounded(rows * cols, cuda::Bf16{0xffff});
    const int64_t outputs = random.below(3);
    if (outputs != 1) args.out = out.data();
    if (outputs != 0) args.out_bf16 = rounded.data();

    launch(norm_launch(args), args, schedule_of(shape));

    std::vector<double> expected;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t from = gathers ? gathered[row] : row;
      const std::vector<double> y = normed(&in[from * cols], cols, args.kind, 1e-5);
      for (int64_t i = 0; i < cols; ++i) {
        const double gain = double{weight[i]} + (args.has_unit_offset ? 1 : 0);
        const double value = y[i] * gain + (args.bias != nullptr ? bias[i] : 0);
        expected.push_back(args.residual != nullptr ? residual[row * cols + i] + 0.5 * value : value);
      }
    }
    // One column alone: x - mean is 0 for a layer norm, and nothing is relative to it.
    const bool is_constant = cols == 1 && args.kind == NormKind::layer;
    if (args.out != nullptr && !is_constant) {
      EXPECT_LE(relative_distance(out, expected), kF32Tolerance);
    }
    if (args.out_bf16 != nullptr) {
      EXPECT_LE(relative_distance(to_floats(rounded), expected), kBf16Tolerance);
    }
  }
}

struct AppendCase {
  int64_t rows;
  cuda::KvAppendArgs args;
  std::vector<float> fused;    // q, k and v of a row side by side
  std::vector<float> cos_sin;  // as ops/kv_append.h computes it
  std::vector<float> norms[4];
  std::vector<int64_t> slots;
  std::vector<cuda::Bf16> q_out;
  std::vector<cuda::Bf16> pages;

  int64_t head_dim() const { return args.head_dim; }
  int64_t width() const { return (args.num_q_heads + 2 * args.num_kv_heads) * head_dim(); }
};

constexpr int kNumPages = 5;

AppendCase make_append_case(Random& random) {
  AppendCase test;
  cuda::KvAppendArgs& args = test.args;
  test.rows = random.below(6);
  args.head_dim = static_cast<int32_t>(16 * (1 + random.below(16)));
  args.num_kv_heads = static_cast<int32_t>(1 + random.below(3));
  args.num_q_heads = static_cast<int32_t>(args.num_kv_heads * (1 + random.below(4)));
  args.rotary_dim =
      static_cast<int32_t>(random.below(3) == 0 ? args.head_dim : 2 * random.below(args.head_dim / 2 + 1));
  args.rope_style = random.below(2) == 0 ? RopeStyle::interleaved : RopeStyle::half_split;
  args.q_scale = 0.3f;
  args.qk_norm_kind = random.below(2) == 0 ? NormKind::rms : NormKind::layer;
  args.qk_norm_epsilon = 1e-6f;
  args.qk_norm_has_unit_offset = random.below(2) == 0;
  args.num_rows = static_cast<int32_t>(test.rows);
  test.fused = random.normals(test.rows * test.width());
  for (int64_t i = 0; i < test.rows * args.rotary_dim; ++i) {
    const int64_t half = args.rotary_dim / 2;
    const double angle = static_cast<double>(random.below(5000)) * std::pow(1e4, -double(i % half) / half);
    test.cos_sin.push_back(
        static_cast<float>(i % args.rotary_dim < half ? std::cos(angle) : std::sin(angle)));
  }
  for (std::vector<float>& norm : test.norms) norm = random.normals(args.head_dim);
  for (int64_t row = 0; row < test.rows; ++row) {  // any places, each once; some rows go nowhere
    test.slots.push_back(random.below(6) == 0 ? -1 : row * 13 + random.below(13));
  }
  test.q_out.assign(test.rows * args.num_q_heads * args.head_dim, cuda::Bf16{0xffff});
  test.pages.assign(kNumPages * cuda::page_elements(args.num_kv_heads, args.head_dim), cuda::Bf16{0xffff});
  args.q = test.fused.data();
  args.k = args.q + args.num_q_heads * args.head_dim;
  args.v = args.k + args.num_kv_heads * args.head_dim;
  args.q_stride = args.k_stride = args.v_stride = test.width();
  args.cos_sin = test.cos_sin.data();
  args.slots = test.slots.data();
  if (random.below(2) == 0) {
    args.q_norm = test.norms[0].data();
    args.k_norm = test.norms[1].data();
    if (random.below(2) == 0) args.q_norm_bias = test.norms[2].data();
    if (random.below(2) == 0) args.k_norm_bias = test.norms[3].data();
  }
  args.q_out = test.q_out.data();
  args.pages = test.pages.data();
  return test;
}

// Head `index` of one row (q heads, then k, then v), normed, rotated and scaled in float64.
std::vector<double> expected_head(const AppendCase& test, int64_t row, int64_t index) {
  const cuda::KvAppendArgs& args = test.args;
  const float* in = &test.fused[row * test.width() + index * args.head_dim];
  std::vector<double> head(in, in + args.head_dim);
  const bool is_query = index < args.num_q_heads;
  if (index >= args.num_q_heads + args.num_kv_heads) return head;
  const float* weight = is_query ? args.q_norm : args.k_norm;
  const float* bias = is_query ? args.q_norm_bias : args.k_norm_bias;
  if (weight != nullptr) {
    head = normed(in, args.head_dim, args.qk_norm_kind, args.qk_norm_epsilon);
    for (int64_t i = 0; i < args.head_dim; ++i) {
      head[i] *= double{weight[i]} + (args.qk_norm_has_unit_offset ? 1 : 0);
      if (bias != nullptr) head[i] += bias[i];
    }
  }
  const int64_t half = args.rotary_dim / 2;
  const float* cos_sin = &test.cos_sin[row * args.rotary_dim];
  for (int64_t i = 0; i < half; ++i) {
    const bool is_split = args.rope_style == RopeStyle::half_split;
    double& first = head[is_split ? i : 2 * i];
    double& second = head[is_split ? i + half : 2 * i + 1];
    const double turned = first * cos_sin[i] - second * cos_sin[half + i];
    second = first * cos_sin[half + i] + second * cos_sin[i];
    first = turned;
  }
  if (is_query) {
    for (double& each : head) each *= double{args.q_scale};
  }
  return head;
}

TEST(CudaKvAppend, AgreesWithFloat64AndTouchesNoOtherSlot) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(2000 + shape);
    AppendCase test = make_append_case(random);
    const cuda::KvAppendArgs& args = test.args;
    launch(kv_append_launch(args), args, schedule_of(shape));

    std::vector<float> found;
    std::vector<double> expected;
    int64_t num_written = 0;
    for (int64_t row = 0; row < test.rows; ++row) {
      for (int64_t index = 0; index < args.num_q_heads + 2 * args.num_kv_heads; ++index) {
        const bool is_query = index < args.num_q_heads;
        const int64_t slot = test.slots[row];
        if (!is_query && slot < 0) continue;
        const std::vector<double> head = expected_head(test, row, index);
        expected.insert(expected.end(), head.begin(), head.end());
        const int64_t kv_index = index - args.num_q_heads;
        const int64_t page = cuda::page_elements(args.num_kv_heads, args.head_dim) * (slot / 16);
        const int64_t tile = kv_index % args.num_kv_heads * 2 + kv_index / args.num_kv_heads;
        for (int dim = 0; dim < args.head_dim; ++dim) {
          const int64_t in_pages = page + tile * 16 * args.head_dim +
                                   cuda::offset_in_tile(static_cast<int>(slot & 15), dim, args.head_dim);
          found.push_back(to_float(is_query
                                       ? test.q_out[(row * args.num_q_heads + index) * args.head_dim + dim]
                                       : test.pages[in_pages]));
          num_written += is_query ? 0 : 1;
        }
      }
    }
    EXPECT_LE(relative_distance(found, expected), kBf16Tolerance);
    const auto is_untouched = [](cuda::Bf16 each) { return each.bits == 0xffff; };
    EXPECT_EQ(std::ranges::count_if(test.pages, is_untouched),
              static_cast<int64_t>(test.pages.size()) - num_written);
  }
}

TEST(CudaEmbedding, AgreesWithFloat64OnRandomShapes) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(3000 + shape);
    const int64_t hidden = 2 * (1 + random.below(300));
    const int64_t rows = random.below(5);
    const int64_t vocab = 1 + random.below(20);
    const std::vector<cuda::Bf16> tables[3] = {to_bf16s(random.normals(vocab * hidden)),
                                               to_bf16s(random.normals(vocab * hidden)),
                                               to_bf16s(random.normals(vocab * hidden))};
    std::vector<int32_t> ids[3];
    for (std::vector<int32_t>& each : ids) {
      for (int64_t row = 0; row < rows; ++row) each.push_back(static_cast<int32_t>(random.below(vocab)));
    }
    std::vector<float> out(rows * hidden, NAN);
    cuda::EmbeddingArgs args;
    args.table = tables[0].data();
    args.ids = ids[0].data();
    if (random.below(2) == 0) args.positions = tables[1].data();
    args.position_ids = ids[1].data();
    if (random.below(2) == 0) args.types = tables[2].data();
    args.type_ids = ids[2].data();
    args.out = out.data();
    args.num_rows = static_cast<int32_t>(rows);
    args.hidden = static_cast<int32_t>(hidden);
    args.scale = 3;
    launch(embedding_launch(args), args, schedule_of(shape));
    std::vector<double> expected;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < hidden; ++i) {
        double value = 3 * double{to_float(tables[0][ids[0][row] * hidden + i])};
        if (args.positions != nullptr) value += to_float(tables[1][ids[1][row] * hidden + i]);
        if (args.types != nullptr) value += to_float(tables[2][ids[2][row] * hidden + i]);
        expected.push_back(value);
      }
    }
    EXPECT_LE(relative_distance(out, expected), kF32Tolerance);
  }
}

}  // namespace
}  // namespace autoglm::test
