#include "product_bench.h"

#include <algorithm>

#include "base/half.h"
#include "cuda/gemm/gemm.h"
#include "cuda/quantized/quantized.h"
#include "cuda/quantized/weight_order.h"
#include "random_values.h"

namespace autoglm::bench {
namespace {

Content weight_content(cuda::DeviceLayout layout) {
  if (layout == cuda::DeviceLayout::bf16) return Content::small_bf16;
  return layout == cuda::DeviceLayout::f16 ? Content::small_f16 : Content::bytes;
}

}  // namespace

std::string describe(const ProductShape& shape) {
  return std::to_string(shape.num_rows) + " rows, " + std::to_string(shape.n) + " x " +
         std::to_string(shape.k);
}

int64_t ProductCase::weights_bytes() const {
  return cuda::is_quantized(layout_) ? cuda::weights_bytes(layout_, shape_.n, shape_.k)
                                     : int64_t{shape_.n} * shape_.k * 2;
}
int64_t ProductCase::scales_bytes() const {
  return cuda::is_quantized(layout_) ? cuda::scales_bytes(shape_.n, shape_.k, kGroup) : 0;
}
int64_t ProductCase::num_bytes() const {
  return weights_bytes() + scales_bytes() + 2 * int64_t{shape_.num_rows} * (int64_t{shape_.n} + shape_.k);
}

ProductCase::ProductCase(Lab& lab, const ProductShape& shape, cuda::DeviceLayout layout)
    : lab_(lab), shape_(shape), layout_(layout) {
  const bool is_quantized = cuda::is_quantized(layout);
  const int num_turns = lab.num_turns(num_bytes());
  for (int turn = 0; turn < num_turns; ++turn) {
    weights_.push_back(lab.random(weights_bytes(), weight_content(layout)));
    scales_.push_back(lab.random(scales_bytes(), Content::scales));
  }
  in_ = lab.random(int64_t{shape.num_rows} * shape.k * 2, Content::bf16);
  out_ = lab.allocate(int64_t{shape.num_rows} * shape.n * 2);
  args_ = {.w = {.n = shape.n,
                 .k = shape.k,
                 .row_stride = is_quantized ? 0 : shape.k,
                 .group = is_quantized ? kGroup : 0,
                 .layout = layout},
           .in = in_.as<cuda::Bf16>(),
           .out_bf16 = out_.as<cuda::Bf16>(),
           .experts = {},
           .in_stride = shape.k,
           .out_stride = shape.n,
           .num_rows = shape.num_rows};
  const size_t bytes =
      is_quantized ? cuda::quantized_workspace_bytes(args_) : cuda::gemm_workspace_bytes(args_);
  workspace_ = lab.zeros(static_cast<int64_t>(bytes));
  args_.workspace = workspace_.data();
}

void ProductCase::enqueue(int turn) {
  cuda::ProductArgs args = args_;
  args.w.weights = weights_[turn].data();
  args.w.scales = scales_[turn].data();
  launch(lab_.stream(), cuda::is_quantized(layout_) ? cuda::quantized_launch(args) : cuda::gemm_launch(args),
         args);
}

Timing ProductCase::measure() {
  return lab_.measure(num_turns(), [this](int turn) { enqueue(turn); });
}

Result ProductCase::run() {
  Result result;
  enqueue(0);
  const std::vector<std::byte> first = snapshot(lab_, out_);
  result.tolerance = kBf16Tolerance;
  result.distance = distance(out_);
  result.timing = measure();
  enqueue(0);
  result.is_repeatable = snapshot(lab_, out_) == first;
  return result;
}

// One row of the weights of turn 0, in float64.
std::vector<double> ProductCase::weight_row(int64_t row) {
  const int64_t k = shape_.k;
  std::vector<double> out;
  if (!cuda::is_quantized(layout_)) {
    const bool is_f16 = layout_ == cuda::DeviceLayout::f16;
    for (const uint16_t bits : lab_.read(weights_[0].as<uint16_t>() + row * k, k)) {
      out.push_back(is_f16 ? half_to_float(bits) : bf16_to_float(bits));
    }
    return out;
  }
  const int bits = cuda::code_bits(layout_);
  const int64_t panel = row / kPanelRows;
  const int64_t panel_words = cuda::num_slabs(k) * cuda::slab_bytes(bits) / 4;
  const int64_t panel_scales = cuda::num_units(k, kGroup) * cuda::unit_scales(kGroup);
  const auto words = lab_.read(weights_[0].as<uint32_t>() + panel * panel_words, panel_words);
  const auto scales = lab_.read(scales_[0].as<uint16_t>() + panel * panel_scales, panel_scales);
  const int64_t in_panel = row % kPanelRows;
  for (int64_t col = 0; col < k; ++col) {
    const cuda::CodePlace place =
        cuda::code_in_slab(bits, static_cast<int>(in_panel), static_cast<int>(col % cuda::kSlabK));
    const uint32_t word = words[cuda::slab_offset(bits, k, in_panel, col) / 4 + place.word];
    const int code = static_cast<int>(word >> place.bit & 15);
    out.push_back((code - 8) * double{half_to_float(scales[cuda::scale_index(k, kGroup, in_panel, col)])});
  }
  return out;
}

double ProductCase::distance(const cuda::DeviceMemory& out) {
  test::Random random(3);
  const int64_t k = shape_.k;
  Distance distance;
  for (int i = 0; i < 16; ++i) {
    const int64_t col = i == 0 ? shape_.n - 1 : random.below(shape_.n);
    const std::vector<double> w = weight_row(col);
    for (int j = 0; j < 4; ++j) {
      const int64_t row = j == 0 ? shape_.num_rows - 1 : random.below(shape_.num_rows);
      const auto x = lab_.read(in_.as<uint16_t>() + row * k, k);
      double sum = 0;
      for (int64_t index = 0; index < k; ++index) sum += w[index] * bf16_to_float(x[index]);
      const uint16_t found = lab_.read(out.as<uint16_t>() + row * shape_.n + col, 1)[0];
      distance.add(bf16_to_float(found), sum);
    }
  }
  return distance.value();
}

}  // namespace autoglm::bench
