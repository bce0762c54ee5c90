// Arguments and launches of the kernels that draw a token from each row of logits: the one that
// runtime/sampler.cpp draws from equal logits, as both compute with base/sampling_math.h.
//
// A step launches count, scan, weigh and limit in this order, each where any of its rows needs it: `count`
// for penalties and biases, `scan` always, `weigh` for temperatures above 0, `limit` for top-k, top-p and
// min-p. Rows that need nothing of a kernel pass through it.
#pragma once

#include <cstdint>

#include "base/sampling_math.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

inline constexpr int kMaxTopTokens = 20;  // abi::Limits::maxLogprobs

struct LogitBias {
  int32_t token = 0;
  float value = 0;
};

// One row of logits: the token behind `num_tokens` others. Ranges are those of base/sampling_params.h.
struct SamplingRow {
  uint64_t seed = 0;
  int64_t first_token = 0;       // where its history begins in SamplingArgs::tokens
  int64_t first_mask_word = -1;  // where its grammar mask begins in SamplingArgs::masks; -1 allows all
  int32_t num_prompt_tokens = 0;
  int32_t num_tokens = 0;  // prompt and output, drafts before this row among the latter
  int32_t first_bias = 0;  // in SamplingArgs::biases, by rising token
  int32_t num_biases = 0;
  int32_t adjusted_slot = -1;  // one of its own for each row with penalties or biases; else -1
  int32_t given_token = -1;    // from 0: nothing is drawn, the answer is its logprob; without slot and mask
  int32_t num_logprobs = -1;   // as in SamplingParams
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float temperature = 1;
  Penalties penalties;
  bool appends_token = false;  // also writes the drawn token to its history, at `num_tokens`
};

enum class SamplingStatus : int32_t {
  fine,
  numeric_error,    // a logit was NaN or infinite
  nothing_allowed,  // the mask forbids all tokens
};

// What came of a row; without logprobs and tokens where the status is not fine.
struct SampledRow {
  int32_t token = -1;
  SamplingStatus status = SamplingStatus::fine;
  float logprob = 0;  // under the model's own distribution over the allowed tokens; 0 if not asked for
  int32_t num_top = 0;
  int32_t top_tokens[kMaxTopTokens] = {};  // likeliest first
  float top_logprobs[kMaxTopTokens] = {};
};

// Offsets into the workspace, in bytes; types are those of sampling_storage.h.
struct SamplingLayout {
  int64_t tickets = 0;       // uint32 [num_rows]: blocks of the row that are done
  int64_t list_counts = 0;   // uint32 [num_rows]
  int64_t counts = 0;        // uint32 [num_slots, padded_vocab]
  int64_t num_zeroed = 0;    // what comes before is 0 ahead of the first step; each step leaves it so
  int64_t states = 0;        // RowState [num_rows]
  int64_t partials = 0;      // SlicePartial [num_rows, slices]
  int64_t tops = 0;          // uint64 [num_rows, slices, kMaxTopTokens]: ranks
  int64_t slice_masses = 0;  // uint64 [num_rows, slices]
  int64_t bins = 0;          // SliceBins [num_rows, slices]
  int64_t lists = 0;         // uint64 [num_rows, kListTokens]: ranks
  int64_t adjusted = 0;      // float [num_slots, padded_vocab]: logits after adjustments
  int64_t num_bytes = 0;
};
// For steps of at most so many rows and slots.
SamplingLayout sampling_layout(int64_t max_rows, int64_t max_slots, int64_t vocab_size);

struct SamplingArgs {
  float* logits = nullptr;  // [num_rows, row_stride], rows 16-byte aligned; soft-capped in place
  const SamplingRow* rows = nullptr;
  SampledRow* out = nullptr;  // [num_rows]
  int32_t* tokens = nullptr;  // histories
  const LogitBias* biases = nullptr;
  const uint32_t* masks = nullptr;  // ceil(vocab_size / 32) words each; 1 allows the token
  void* workspace = nullptr;        // layout.num_bytes, 16-byte aligned
  SamplingLayout layout;   // sampling_layout of at least these rows and slots, and of this vocabulary
  int64_t row_stride = 0;  // floats, a multiple of 4
  int32_t num_rows = 0;
  int32_t vocab_size = 0;          // at most 2^20
  float soft_cap = 0;              // above 0: logits become cap * tanh(logit / cap) before anything else
  bool has_adjusted_rows = false;  // some row has a slot
  bool has_drawn_rows = false;     // some row has a temperature above 0
  bool has_limited_rows = false;   // some row has top-k, top-p or min-p
};

LaunchShape sampling_count_launch(const SamplingArgs& args);
LaunchShape sampling_scan_launch(const SamplingArgs& args);
LaunchShape sampling_weigh_launch(const SamplingArgs& args);
LaunchShape sampling_limit_launch(const SamplingArgs& args);

// Token ids of a step that was planned before those of the step before it were known.
//   ids[i] = sources[i] < 0 ? given[i] : sampled[sources[i]].token, 0 where none was drawn
struct GatherTokensArgs {
  const int32_t* sources = nullptr;  // [num_ids]
  const int32_t* given = nullptr;    // [num_ids]
  const SampledRow* sampled = nullptr;
  int32_t* ids = nullptr;
  int32_t num_ids = 0;
};
LaunchShape gather_tokens_launch(const GatherTokensArgs& args);

}  // namespace autoglm::cuda
