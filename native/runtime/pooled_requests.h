// The requests of a step whose answer is one vector made of the hidden states of all their tokens. Sums run
// over ascending positions in float64, so that no cut into chunks changes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/back_end.h"
#include "ops/execution.h"
#include "runtime/row.h"

namespace autoglm {

// Positions [start, start + count) of a row, which are outputs [first_output, first_output + count) of the
// step.
struct PooledChunk {
  size_t entry_idx = 0;
  Row* row = nullptr;
  int64_t first_output = 0;
  int64_t start = 0;
  int64_t count = 0;
  std::span<float> output;
  bool is_numeric_error = false;  // the answer has a number that is not finite

  bool is_last() const { return start + count == row->num_tokens(); }
};

class PooledRequests {
 public:
  void clear() { chunks_.clear(); }
  void add(const PooledChunk& chunk) { chunks_.push_back(chunk); }
  std::span<const PooledChunk> chunks() const { return chunks_; }

  // Takes in the hidden states of the last forward and writes the answers that are complete with them.
  void answer(const Execution& execution, BackEnd& back_end);

 private:
  void write_answers(const Execution& execution, BackEnd& back_end, std::span<PooledChunk* const> finished);

  std::vector<PooledChunk> chunks_;
  std::vector<PooledChunk*> finished_;
  std::vector<float> vectors_;  // [PooledLayers::kMaxRows, hidden_size]
};

}  // namespace autoglm
