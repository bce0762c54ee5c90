// One product with its operands and what it should give, and how it is run on the emulator.
#pragma once

#include <algorithm>
#include <vector>

#include "quantized_fixture.h"

namespace autoglm::test {

struct ProductCase {
  QuantizedWeights weights;
  cuda::ProductArgs args;
  int tile = -1;  // -1: what the launcher chooses
  std::vector<cuda::Bf16> in;
  std::vector<int32_t> input_rows;
  std::vector<int32_t> first_pairs;
  std::vector<float> bias;
  std::vector<float> residual;
  std::vector<float> out;
  std::vector<cuda::Bf16> out_bf16;
  std::vector<double> expected;  // [num_rows, out columns]
  bool leaves_tickets = true;    // as zeros, after it ran

  int64_t expert_of(int64_t row) const {
    if (first_pairs.empty()) return 0;
    return std::upper_bound(first_pairs.begin(), first_pairs.end(), row) - first_pairs.begin() - 1;
  }
};

inline void compute_expected(ProductCase& test) {
  const cuda::ProductArgs& args = test.args;
  const int64_t k = args.w.k;
  std::vector<float> wide(k);
  for (int64_t row = 0; row < args.num_rows; ++row) {
    const int64_t from = test.input_rows.empty() ? row : test.input_rows[row];
    for (int64_t i = 0; i < k; ++i) wide[i] = to_float(test.in[from * args.in_stride + i]);
    const auto sum_of = [&](int64_t weight_row) {
      const double* weight = &test.weights.values[(test.expert_of(row) * args.w.n + weight_row) * k];
      double sum = test.bias.empty() ? 0 : double{test.bias[weight_row]};
      for (int64_t i = 0; i < k; ++i) sum += weight[i] * wide[i];
      return sum;
    };
    for (int64_t col = 0; col < args.num_outputs(); ++col) {
      double value = 0;
      if (args.epilogue == cuda::Epilogue::gated) {
        value = activated_in_double(args.activation, sum_of(cuda::gated_row(col, false))) *
                sum_of(cuda::gated_row(col, true));
      } else if (args.epilogue == cuda::Epilogue::activated) {
        value = activated_in_double(args.activation, sum_of(col));
      } else {
        value = args.scale * sum_of(col);
        if (!test.residual.empty()) value += test.residual[row * args.out_stride + col];
      }
      test.expected.push_back(value);
    }
  }
}

// Outputs of the rows, without what lies between them. `kernel`: instead of the launcher's.
inline std::vector<float> run_case(ProductCase& test, const emulator::Schedule& schedule,
                                   const char* kernel = nullptr) {
  cuda::ProductArgs& args = test.args;
  Aligned<uint32_t> codes(test.weights.codes);
  Aligned<uint16_t> scales(test.weights.scales);
  Aligned<uint16_t> mins(test.weights.mins);
  Aligned<cuda::Bf16> in(test.in);
  args.w.weights = codes.data();
  args.w.scales = scales.data();
  if (args.w.mins != nullptr) args.w.mins = mins.data();
  args.in = in.data();
  args.input_rows = test.input_rows.empty() ? nullptr : test.input_rows.data();
  args.bias = test.bias.empty() ? nullptr : test.bias.data();
  args.out = test.out.empty() ? nullptr : test.out.data();
  args.out_bf16 = test.out_bf16.empty() ? nullptr : test.out_bf16.data();
  args.residual = test.residual.empty() ? nullptr : test.residual.data();
  if (args.residual != nullptr && test.out == test.residual) args.residual = args.out;
  const size_t bytes = test.tile < 0 ? cuda::quantized_workspace_bytes(args)
                                     : cuda::quantized_workspace_bytes(args, test.tile);
  std::vector<float> workspace = poisoned_workspace(bytes);
  args.workspace = workspace.data();
  cuda::LaunchShape shape =
      test.tile < 0 ? cuda::quantized_launch(args) : cuda::quantized_launch(args, test.tile);
  if (kernel != nullptr) shape.kernel = kernel;
  launch(shape, args, schedule);
  test.leaves_tickets = tickets_are_zero(workspace);
  const std::vector<float> all = test.out.empty() ? to_floats(test.out_bf16) : test.out;
  std::vector<float> found;
  for (int64_t row = 0; row < args.num_rows; ++row) {
    const auto first = all.begin() + row * args.out_stride;
    found.insert(found.end(), first, first + args.num_outputs());
  }
  return found;
}

}  // namespace autoglm::test
