// How a request wants its tokens drawn. Ranges are those of lib/engine/types.ts, checked when a plan is
// parsed.
#pragma once

#include <cstdint>

namespace autoglm {

struct SamplingParams {
  float temperature = 1;  // 0 takes the likeliest token
  int32_t top_k = 0;      // 0 keeps all
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint64_t seed = 0;
  int32_t num_logprobs =
      -1;  // alternatives reported per token; -1 reports nothing, 0 the drawn token's alone

  bool has_penalties() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
};

}  // namespace autoglm
