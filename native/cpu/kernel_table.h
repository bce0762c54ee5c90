// The functions of one instruction set. ops/ checks the arguments and cuts the work; kernels trust both.
// Ranges are half open. A kernel writes the outputs of its range and nothing else.
#pragma once

#include <cstdint>

#include "base/cpu_info.h"
#include "base/expert_params.h"
#include "base/op_params.h"

namespace autoglm::cpu {

constexpr int64_t kSplitKeys = 256;     // keys per partial result, at multiples of 256
constexpr int64_t kMaxValueDim = 1024;  // a head's values fit the stack of the merge

// Floats of one partial result: padded values, then the maximum score, the sum of weights and padding.
constexpr int64_t attention_partial_floats(int64_t value_dim) { return (value_dim + 15) / 16 * 16 + 16; }

// One chunk of attention: tokens [first_token, first_token + num_tokens) of a slice, for the query heads of
// one KV head. Its query rows are (token, head of the group), token major; row i has its partials at partials
// + i * row_stride.
struct AttentionTask {
  SequenceSlice sequence;
  int64_t kv_head;
  int64_t first_token;
  int64_t num_tokens;
  int64_t split;  // this split into the first partial; -1: all splits merged into the first, the second is
                  // used up
  float* partials;
  int64_t row_stride;
};

// The partials of all heads of one row: `num_partials` in a row per head, to be merged in order.
struct AttentionPartials {
  const float* first;
  int64_t kv_head_stride;
  int64_t head_stride;
  int64_t num_partials;
};

// Tokens [first_token, first_token + num_tokens) of one slice, all in one page.
struct KvAppendTask {
  SequenceSlice sequence;
  int64_t first_token;
  int64_t num_tokens;
};

struct KernelTable {
  void (*norm)(const NormParams& params, int64_t first_row, int64_t last_row);
  void (*quantize)(const TensorView<const float>& in, const QuantizedRows& out, int64_t first_row,
                   int64_t last_row);
  void (*activate)(const ActivationParams& params, int64_t first_row, int64_t last_row);
  void (*matmul_int8)(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                      int64_t last_row);
  void (*matmul_float)(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                       int64_t last_row);
  void (*append_kv)(const KvAppendParams& params, const KvAppendTask& task);
  void (*attend)(const AttentionParams& params, const AttentionTask& task);
  void (*finish_attention)(const AttentionParams& params, const AttentionPartials& partials, int64_t row);
  void (*combine)(const CombineParams& params, int64_t first_row, int64_t last_row);
};

// Null when this binary was built for another processor family.
const KernelTable* kernels_of(Isa isa);

const KernelTable* kernels_plain();
#if defined(__x86_64__)
const KernelTable* kernels_avx2();
const KernelTable* kernels_avx_vnni();
const KernelTable* kernels_avx512();
const KernelTable* kernels_avx512_bf16();
#elif defined(__aarch64__)
const KernelTable* kernels_neon();
const KernelTable* kernels_neon_i8mm();
#endif

}  // namespace autoglm::cpu
