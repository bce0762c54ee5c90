// The rows of one step: the new positions of every running sequence, and those of them whose results are
// wanted. Of the others the last layer computes keys and values, no more.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/op_params.h"
#include "model/adapter.h"

namespace autoglm {

// Positions [start, start + tokens.size()) of one sequence.
struct SequenceChunk {
  std::span<const int32_t> tokens;
  int64_t start = 0;
  std::span<const int32_t> page_table;  // covers all of them; lives as long as the step
  int32_t rope_table = 0;               // added to the layer's own table index
  int64_t second_segment = 0;           // positions from here on have token type 1; 0 for none
  const Adapter* adapter = nullptr;     // lives as long as the step; optional
  int64_t num_unread = 0;               // the first so many tokens give no outputs
  // From 0: its one token is what the step launched before draws for this request, and `tokens` holds any.
  int32_t pending_draw = -1;
};

class StepRows {
 public:
  void reserve(int64_t max_step_tokens);
  void begin(std::span<const SequenceChunk> chunks);

  int64_t count() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> positions() const { return positions_; }
  std::span<const int32_t> token_types() const { return token_types_; }
  std::span<const SequenceSlice> slices() const { return slices_; }  // one per chunk

  // The rows that give outputs, in order, and the slices they make. Slices without any are left out.
  std::span<const int32_t> output_rows() const { return output_rows_; }
  std::span<const SequenceSlice> output_slices() const { return output_slices_; }

 private:
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> token_types_;
  std::vector<SequenceSlice> slices_;
  std::vector<int32_t> output_rows_;
  std::vector<SequenceSlice> output_slices_;
};

}  // namespace autoglm
