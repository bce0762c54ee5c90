// Rope with KV append against float64, on random shapes, kinds of pages and every schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/attention/page_layout.h"
#include "cuda/rows/kv_append.h"
#include "emulated_launch.h"
#include "random_values.h"
#include "rows/expected_norm.h"

namespace autoglm::test {
namespace {

constexpr int kNumPages = 5;

struct AppendCase {
  int64_t rows;
  cuda::KvAppendArgs args;
  std::vector<float> fused;    // q, k and v of a row side by side
  std::vector<float> cos_sin;  // as ops/kv_append.h computes it
  std::vector<float> norms[4];
  std::vector<int64_t> slots;
  std::vector<cuda::Bf16> q_out;
  std::vector<uint8_t> pages;

  int64_t width() const { return int64_t{args.num_heads()} * args.head_dim; }
};

void set_heads(cuda::KvAppendArgs& args, Random& random) {
  const cuda::KvType types[] = {cuda::KvType::bf16, cuda::KvType::int8, cuda::KvType::fp8};
  args.is_latent = random.below(4) == 0;
  args.kv_type = args.is_latent ? cuda::KvType::bf16 : types[random.below(3)];
  const bool is_longest = args.is_latent && random.below(3) == 0;
  args.head_dim = is_longest ? cuda::kMaxAppendedDim : static_cast<int32_t>(16 * (1 + random.below(16)));
  args.num_kv_heads = args.is_latent ? 1 : static_cast<int32_t>(1 + random.below(3));
  args.num_q_heads = static_cast<int32_t>(args.num_kv_heads * (1 + random.below(4)));
  args.rotary_dim =
      static_cast<int32_t>(random.below(3) == 0 ? args.head_dim : 2 * random.below(args.head_dim / 2 + 1));
  if (args.is_latent) args.first_normed_k = static_cast<int32_t>(random.below(args.head_dim));
  args.rope_style = random.below(2) == 0 ? RopeStyle::interleaved : RopeStyle::half_split;
  args.q_scale = 0.3f;
  args.qk_norm_kind = random.below(2) == 0 ? NormKind::rms : NormKind::layer;
  args.qk_norm_epsilon = 1e-6f;
  args.qk_norm_has_unit_offset = random.below(2) == 0;
}

AppendCase make_append_case(Random& random) {
  AppendCase test;
  cuda::KvAppendArgs& args = test.args;
  set_heads(args, random);
  test.rows = random.below(6);
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
  test.pages.assign(kNumPages * args.layout().page_bytes(), 0xff);
  args.q = test.fused.data();
  args.k = args.q + args.num_q_heads * args.head_dim;
  if (!args.is_latent) args.v = args.k + args.num_kv_heads * args.head_dim;
  args.q_stride = args.k_stride = args.v_stride = test.width();
  args.cos_sin = test.cos_sin.data();
  args.slots = test.slots.data();
  if (random.below(2) == 0) {
    if (!args.is_latent) args.q_norm = test.norms[0].data();
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
  const int64_t first = is_query ? 0 : args.first_normed_k;
  if (weight != nullptr) {
    const std::vector<double> y =
        normed(in + first, args.head_dim - first, args.qk_norm_kind, args.qk_norm_epsilon);
    for (int64_t i = 0; i < args.head_dim - first; ++i) {
      head[first + i] = y[i] * (double{weight[i]} + (args.qk_norm_has_unit_offset ? 1 : 0));
      if (bias != nullptr) head[first + i] += bias[i];
    }
  }
  const int64_t half = args.rotary_dim / 2;
  const float* cos_sin = test.cos_sin.data() + row * args.rotary_dim;
  for (int64_t i = 0; i < half; ++i) {
    const bool is_split = args.rope_style == RopeStyle::half_split;
    double& left = head[is_split ? i : 2 * i];
    double& right = head[is_split ? i + half : 2 * i + 1];
    const double turned = left * cos_sin[i] - right * cos_sin[half + i];
    right = left * cos_sin[half + i] + right * cos_sin[i];
    left = turned;
  }
  if (is_query) {
    for (double& each : head) each *= double{args.q_scale};
  }
  return head;
}

// 1, or for a byte of e4m3 half of the step to its neighbours, in units of the scale.
double half_step(cuda::KvType type, double stored) {
  if (type == cuda::KvType::int8) return 0.5;
  const int exponent = stored == 0 ? -6 : std::max(-6, std::ilogb(stored));
  return std::ldexp(1.0, exponent - 4);
}

double value_of_code(cuda::KvType type, uint8_t code) {
  if (type == cuda::KvType::int8) return static_cast<int8_t>(code);
  const int exponent = code >> 3 & 15;
  const double magnitude =
      exponent == 0 ? std::ldexp(code & 7, -9) : std::ldexp(8 + (code & 7), exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

// One row of K or V of codes with their scale: each as near to what is expected as codes can be, where the
// largest is 127 or 448. Returns the number of bytes that were written.
int64_t expect_codes(const AppendCase& test, const uint8_t* tile, const uint8_t* scales, int slot,
                     const std::vector<double>& expected) {
  const cuda::KvLayout layout = test.args.layout();
  float scale;
  std::memcpy(&scale, scales + slot * 4, 4);
  double largest = 0;
  for (const double each : expected) largest = std::max(largest, std::abs(each));
  const double limit = layout.type == cuda::KvType::int8 ? 127 : 448;
  EXPECT_NEAR(scale * limit, largest, 1e-5 * largest);
  for (int dim = 0; dim < layout.head_dim; ++dim) {
    const double stored = value_of_code(layout.type, tile[layout.offset_in_tile(slot, dim)]);
    // The kernel's own rounding in f32 may decide a tie the other way.
    EXPECT_NEAR(stored, expected[dim] / scale, half_step(layout.type, stored) + 1e-5 * limit);
  }
  return layout.head_dim + 4;
}

TEST(CudaKvAppend, AgreesWithFloat64AndTouchesNoOtherSlot) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    SCOPED_TRACE("shape " + std::to_string(shape));
    Random random(2000 + shape);
    AppendCase test = make_append_case(random);
    const cuda::KvAppendArgs& args = test.args;
    const cuda::KvLayout layout = args.layout();
    launch(kv_append_launch(args), args, schedule_of(shape));

    std::vector<float> found;
    std::vector<double> expected;
    std::vector<uint8_t> rest = test.pages;  // what was written is set back
    for (int64_t row = 0; row < test.rows; ++row) {
      for (int64_t index = 0; index < args.num_heads(); ++index) {
        const std::vector<double> head = expected_head(test, row, index);
        if (index < args.num_q_heads) {
          const cuda::Bf16* out = &test.q_out[(row * args.num_q_heads + index) * args.head_dim];
          for (int dim = 0; dim < args.head_dim; ++dim) found.push_back(to_float(out[dim]));
          expected.insert(expected.end(), head.begin(), head.end());
          continue;
        }
        if (test.slots[row] < 0) continue;
        const int64_t in_kv = index - args.num_q_heads;
        const bool is_value = in_kv >= args.num_kv_heads;
        const int slot = static_cast<int>(test.slots[row] % 16);
        const int64_t start =
            layout.head_offset(test.slots[row] / 16, static_cast<int>(in_kv % args.num_kv_heads));
        const int64_t tile = start + (is_value ? layout.value_offset() : 0);
        const int64_t scales = start + (is_value ? layout.value_scale_offset() : layout.key_scale_offset());
        for (int dim = 0; dim < args.head_dim; ++dim) {
          const int64_t place = tile + layout.offset_in_tile(slot, dim);
          std::fill_n(&rest[place], cuda::element_bytes(layout.type), 0xff);
          if (cuda::has_scales(layout.type)) continue;
          cuda::Bf16 stored;
          std::memcpy(&stored, &test.pages[place], 2);
          found.push_back(to_float(stored));
          expected.push_back(head[dim]);
        }
        if (!cuda::has_scales(layout.type)) continue;
        expect_codes(test, &test.pages[tile], &test.pages[scales], slot, head);
        std::fill_n(&rest[scales + slot * 4], 4, 0xff);
      }
    }
    EXPECT_LE(relative_distance(found, expected), kBf16Tolerance);
    EXPECT_EQ(std::ranges::count(rest, 0xff), static_cast<int64_t>(rest.size())) << "another slot changed";
  }
}

// A row of zeros has a scale of 0 and no codes; one with a NaN shows it in its scale.
TEST(CudaKvAppend, ScalesOfZerosAndOfNaNs) {
  for (const cuda::KvType type : {cuda::KvType::int8, cuda::KvType::fp8}) {
    std::vector<float> in(3 * 16, 0.0f);
    in[2 * 16 + 5] = NAN;
    std::vector<cuda::Bf16> q_out(16);
    const int64_t slot = 3;
    cuda::KvAppendArgs args{.q = in.data(), .k = in.data() + 16, .v = in.data() + 32, .slots = &slot};
    args.num_rows = args.num_q_heads = args.num_kv_heads = 1;
    args.head_dim = 16;
    args.kv_type = type;
    std::vector<uint8_t> pages(args.layout().page_bytes(), 0xff);
    args.q_out = q_out.data();
    args.pages = pages.data();
    launch(kv_append_launch(args), args, schedule_of(0));
    float scales[2];
    std::memcpy(&scales[0], &pages[args.layout().key_scale_offset() + 3 * 4], 4);
    std::memcpy(&scales[1], &pages[args.layout().value_scale_offset() + 3 * 4], 4);
    EXPECT_EQ(scales[0], 0.0f);
    EXPECT_TRUE(std::isnan(scales[1]));
    for (int dim = 0; dim < 16; ++dim) EXPECT_EQ(pages[args.layout().offset_in_tile(3, dim)], 0);
  }
}

}  // namespace
}  // namespace autoglm::test
