// The arguments of the operations of a mixture of experts; see base/op_params.h.
// A (row, expert) pair is one row of one expert's products; pairs are numbered by expert, rows ascending
// within one.
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "base/tensor_view.h"

namespace autoglm {

// Chooses num_chosen experts per row. score = softmax or sigmoid of the logits; the experts with the largest
// score + correction are chosen, within the top_groups best of num_groups groups of equal size, a group being
// as good as its two best; of equals the first. weight = score (/ sum of the chosen scores) * scale. A NaN
// counts as the largest score: the row's weights show it. Source: DeepSeek-V3 (arXiv 2412.19437),
// section 2.1.2.
struct RouteParams {
  RouterScore score = RouterScore::softmax;
  TensorView<const float> logits;     // [rows, experts]
  const float* correction = nullptr;  // optional [experts]
  int64_t num_groups = 1;
  int64_t top_groups = 1;
  int64_t num_chosen = 1;
  bool normalizes = false;
  float scale = 1;
  TensorView<int32_t> experts;  // [rows, num_chosen], ascending
  TensorView<float> weights;    // [rows, num_chosen]
};

// out[r] = residual[r] + scale * (sum over j of weights[r, j] * in[pairs[r, j]] + gate[r] * shared[r]), j
// ascending in one chain per output. gate[r] = sigmoid(shared_gate[r, 0]), 1 when absent; residual optional.
struct CombineParams {
  TensorView<const float> in;           // [pairs, cols]
  TensorView<const int32_t> pairs;      // [rows, num_chosen], trusted to name rows of `in`
  TensorView<const float> weights;      // [rows, num_chosen]
  TensorView<const float> shared;       // optional [rows, cols]
  TensorView<const float> shared_gate;  // optional [rows, 1]
  TensorView<const float> residual;     // optional [rows, cols]
  float scale = 1;
  TensorView<float> out;  // [rows, cols]
};

}  // namespace autoglm
