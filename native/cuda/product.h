// Arguments of the products of activations and weights, whatever the layout of the weights.
//
//   y[r, i] = sum over j of w[i, j] * in[r, j] + bias[i]
//   plain:       out[r, i] = residual[r, i] + scale * y[r, i]
//   activated:   out[r, i] = act(y[r, i])
//   gated:       out[r, i] = act(y[r, gate row i]) * y[r, up row i], rows of w as gated_row says
#pragma once

#include <cstdint>

#include "base/formats.h"
#include "cuda/bf16.h"
#include "cuda/device_matrix.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

enum class Epilogue : uint8_t { plain, activated, gated };

// Products of a mixture of experts: rows are (row, expert) pairs ordered by expert, and each expert has a
// matrix of its own. Pairs of expert e are rows first_pairs[e] .. first_pairs[e + 1] - 1; how many each has
// is known on the device alone, so a grid is as large as the pairs could need.
struct ExpertRows {
  const int32_t* first_pairs = nullptr;  // [num_experts + 1]; null for a dense product
  int32_t num_experts = 0;
  int64_t weight_stride = 0;      // bytes from one expert's weights to the next's
  int64_t scale_stride = 0;       // bytes, of scales and of mins
  int64_t row_factor_stride = 0;  // floats
};

struct ProductArgs {
  DeviceMatrix w;                       // of the first expert, where there are several
  const Bf16* in = nullptr;             // [rows, w.k], 16-byte aligned rows
  const int32_t* input_rows = nullptr;  // optional [num_rows]: gathers; null reads row r for output row r
  const float* bias = nullptr;          // optional [w.n], in the order of w's rows; dense only
  const float* residual = nullptr;      // optional [num_rows, out columns], plain only; may be `out` itself
  float* out = nullptr;                 // [num_rows, out columns]; exactly one of the two outputs is present
  Bf16* out_bf16 = nullptr;
  // Scratch of products whose sums are split, of as many bytes as product_workspace says; the tickets in it
  // are zero before and after.
  void* workspace = nullptr;
  ExpertRows experts;
  int64_t in_stride = 0;   // elements from one row to the next, a multiple of 8
  int64_t out_stride = 0;  // elements, of out and residual
  int32_t num_rows = 0;
  float scale = 1;
  Epilogue epilogue = Epilogue::plain;
  Activation activation = Activation::silu;

  // Columns of the output.
  constexpr int32_t num_outputs() const { return epilogue == Epilogue::gated ? w.n / 2 : w.n; }
};

}  // namespace autoglm::cuda
