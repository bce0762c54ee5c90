// A random product of bf16 inputs and bf16 or f16 weights whose unused elements are NaN, and the same in
// float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/gemm/gemm.h"
#include "cuda/gemm/gemm_storage.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {

struct ProductShape {
  int64_t n = 16;
  int64_t k = 8;
  int64_t num_rows = 1;
  std::vector<int64_t> pairs_per_expert;  // empty for a dense product; else their sum is num_rows
  bool gathers = false;
  bool has_bias = false;
  bool has_residual = false;
  bool is_in_place = false;  // the residual is the output
  bool is_rounded = false;   // the output is bf16
  cuda::Epilogue epilogue = cuda::Epilogue::plain;
  Activation activation = Activation::silu;
  cuda::DeviceLayout layout = cuda::DeviceLayout::bf16;  // of the weights
  float largest_input = 1.7f;
  float input_limit = INFINITY;  // inputs beyond it count as it does
  int64_t out_padding = 0;       // out_stride beyond the output's columns
};

struct ProductCase {
  ProductShape shape;
  cuda::ProductArgs args;
  std::vector<cuda::Bf16> in;
  std::vector<uint16_t> weights;
  std::vector<int32_t> input_rows;
  std::vector<int32_t> first_pairs;
  std::vector<float> bias;
  std::vector<float> residual;
  std::vector<float> out;
  std::vector<cuda::Bf16> rounded;
  std::vector<float> workspace;

  int64_t num_outputs() const { return args.num_outputs(); }
};

// Rows of `k` values, NaN behind them.
inline std::vector<cuda::Bf16> padded_rows(Random& random, int64_t rows, int64_t k, int64_t stride,
                                           float largest = 1.7f) {
  std::vector<cuda::Bf16> out(rows * stride, cuda::Bf16{0xffff});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) out[row * stride + i] = to_bf16(random.uniform(-largest, largest));
  }
  return out;
}

inline uint16_t weight_bits(cuda::DeviceLayout layout, float value) {
  return layout == cuda::DeviceLayout::f16 ? float_to_half(value) : to_bf16(value).bits;
}
inline float weight_value(cuda::DeviceLayout layout, uint16_t bits) {
  return layout == cuda::DeviceLayout::f16 ? half_to_float(bits) : bf16_to_float(bits);
}
inline std::vector<uint16_t> padded_weights(Random& random, cuda::DeviceLayout layout, int64_t rows,
                                            int64_t k, int64_t stride) {
  std::vector<uint16_t> out(rows * stride, 0xffff);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) out[row * stride + i] = weight_bits(layout, random.uniform(-1.7f, 1.7f));
  }
  return out;
}

// Points the arguments to this case's own memory, with outputs and workspace as before a launch.
inline void prepare(ProductCase& test) {
  const ProductShape& shape = test.shape;
  cuda::ProductArgs& args = test.args;
  test.out.assign(shape.num_rows * args.out_stride, NAN);
  if (shape.is_in_place) test.out = test.residual;
  test.rounded.assign(shape.num_rows * args.out_stride, cuda::Bf16{0xffff});
  test.workspace.assign(cuda::gemm_workspace_bytes(args) / sizeof(float), NAN);
  const size_t num_tickets = std::min<size_t>(test.workspace.size(), cuda::kGemmTickets);
  std::fill_n(test.workspace.begin(), num_tickets, 0.0f);
  args.w.weights = test.weights.data();
  args.in = test.in.data();
  args.input_rows = shape.gathers ? test.input_rows.data() : nullptr;
  args.experts.first_pairs = shape.pairs_per_expert.empty() ? nullptr : test.first_pairs.data();
  args.bias = shape.has_bias ? test.bias.data() : nullptr;
  args.residual = shape.has_residual ? test.residual.data() : nullptr;
  if (shape.is_in_place) args.residual = test.out.data();
  args.out = shape.is_rounded ? nullptr : test.out.data();
  args.out_bf16 = shape.is_rounded ? test.rounded.data() : nullptr;
  args.workspace = test.workspace.data();
}

inline ProductCase make_product(const ProductShape& shape, Random& random) {
  ProductCase test;
  test.shape = shape;
  cuda::ProductArgs& args = test.args;
  args.w.n = static_cast<int32_t>(shape.n);
  args.w.k = static_cast<int32_t>(shape.k);
  args.w.layout = shape.layout;
  args.w.row_stride = static_cast<int32_t>(shape.k + 8 * random.below(3));
  args.in_stride = shape.k + 8 * random.below(3);
  args.num_rows = static_cast<int32_t>(shape.num_rows);
  args.epilogue = shape.epilogue;
  args.activation = shape.activation;
  args.out_stride = args.num_outputs() + shape.out_padding;
  if (shape.epilogue == cuda::Epilogue::plain) args.scale = random.uniform(0.5f, 1.5f);
  const int64_t num_experts = static_cast<int64_t>(shape.pairs_per_expert.size());
  const int64_t in_rows = shape.gathers ? 1 + random.below(shape.num_rows + 2) : shape.num_rows;
  test.in = padded_rows(random, in_rows, shape.k, args.in_stride, shape.largest_input);
  test.weights = padded_weights(random, shape.layout, shape.n * std::max<int64_t>(1, num_experts), shape.k,
                                args.w.row_stride);
  for (int64_t row = 0; row < shape.num_rows; ++row) {
    test.input_rows.push_back(static_cast<int32_t>(random.below(in_rows)));
  }
  test.first_pairs.push_back(0);
  for (const int64_t count : shape.pairs_per_expert) {
    test.first_pairs.push_back(test.first_pairs.back() + static_cast<int32_t>(count));
  }
  args.experts.num_experts = static_cast<int32_t>(num_experts);
  args.experts.weight_stride = shape.n * args.w.row_stride * 2;
  test.bias = random.normals(shape.n);
  test.residual = random.normals(shape.num_rows * args.out_stride, 3);
  prepare(test);
  return test;
}

inline double expected_activation(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_erf:
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return std::max(0.0, x);
  }
  return NAN;
}

// y of one row and row of weights, with bias.
inline double expected_sum(const ProductCase& test, int64_t row, int64_t weight_row) {
  const cuda::ProductArgs& args = test.args;
  int64_t expert = 0;
  while (!test.shape.pairs_per_expert.empty() && row >= test.first_pairs[expert + 1]) ++expert;
  const int64_t from = test.shape.gathers ? test.input_rows[row] : row;
  const cuda::Bf16* x = &test.in[from * args.in_stride];
  const uint16_t* w = &test.weights[(expert * args.w.n + weight_row) * args.w.row_stride];
  double sum = test.shape.has_bias ? test.bias[weight_row] : 0;
  const float limit = test.shape.input_limit;
  for (int64_t i = 0; i < args.w.k; ++i) {
    sum += double{std::clamp(to_float(x[i]), -limit, limit)} * weight_value(test.shape.layout, w[i]);
  }
  return sum;
}

inline double expected_output(const ProductCase& test, int64_t row, int64_t col) {
  const cuda::ProductArgs& args = test.args;
  if (args.epilogue == cuda::Epilogue::gated) {
    return expected_activation(args.activation, expected_sum(test, row, cuda::gated_row(col, false))) *
           expected_sum(test, row, cuda::gated_row(col, true));
  }
  const double y = expected_sum(test, row, col);
  if (args.epilogue == cuda::Epilogue::activated) return expected_activation(args.activation, y);
  const bool is_added = test.shape.has_residual || test.shape.is_in_place;
  return args.scale * y + (is_added ? test.residual[row * args.out_stride + col] : 0);
}

inline std::vector<float> outputs_of(const ProductCase& test) {
  return test.shape.is_rounded ? to_floats(test.rounded) : test.out;
}

// The largest relative distance of any row from float64; infinite where elements behind a row were written.
inline double largest_distance(const ProductCase& test) {
  const int64_t stride = test.args.out_stride;
  const std::vector<float> out = outputs_of(test);
  double largest = 0;
  for (int64_t row = 0; row < test.args.num_rows; ++row) {
    const auto begin = out.begin() + row * stride;
    const std::vector<float> found(begin, begin + test.num_outputs());
    std::vector<double> expected;
    for (int64_t col = 0; col < test.num_outputs(); ++col) {
      expected.push_back(expected_output(test, row, col));
    }
    for (int64_t col = test.num_outputs(); col < stride; ++col) {
      const float kept = test.shape.is_in_place ? test.residual[row * stride + col] : NAN;
      if (std::isnan(kept) ? !std::isnan(begin[col]) : begin[col] != kept) return INFINITY;
    }
    const double distance = relative_distance(found, expected);
    if (std::isnan(distance)) return INFINITY;
    largest = std::max(largest, distance);
  }
  return largest;
}

inline double tolerance_of(const ProductCase& test) {
  return test.shape.is_rounded ? kBf16Tolerance : kF32Tolerance;
}

// False if a ticket is left over, which the next launch would find.
inline bool multiply(ProductCase& test, cuda::GemmVariant variant, const emulator::Schedule& schedule,
                     const char* kernel = nullptr) {
  cuda::LaunchShape shape = cuda::gemm_launch(test.args, variant);
  if (kernel != nullptr) shape.kernel = kernel;
  launch(shape, test.args, schedule);
  const size_t num_tickets = std::min<size_t>(test.workspace.size(), cuda::kGemmTickets);
  return std::all_of(test.workspace.begin(), test.workspace.begin() + static_cast<int64_t>(num_tickets),
                     [](float each) { return each == 0; });
}

}  // namespace autoglm::test
