#include "model/step_rows.h"

namespace autoglm {

void StepRows::reserve(int64_t max_step_tokens) {
  for (auto* rows : {&tokens_, &positions_, &token_types_, &output_rows_})
    rows->reserve(static_cast<size_t>(max_step_tokens));
}

void StepRows::begin(std::span<const SequenceChunk> chunks) {
  for (auto* rows : {&tokens_, &positions_, &token_types_, &output_rows_}) rows->clear();
  slices_.clear();
  output_slices_.clear();
  for (const SequenceChunk& chunk : chunks) {
    const SequenceSlice slice{.page_table = chunk.page_table.data(),
                              .first_row = count(),
                              .start = chunk.start,
                              .count = static_cast<int64_t>(chunk.tokens.size())};
    slices_.push_back(slice);
    tokens_.insert(tokens_.end(), chunk.tokens.begin(), chunk.tokens.end());
    for (int64_t i = 0; i < slice.count; ++i) {
      positions_.push_back(static_cast<int32_t>(chunk.start + i));
      token_types_.push_back(chunk.second_segment > 0 && chunk.start + i >= chunk.second_segment ? 1 : 0);
    }
    for (int64_t i = chunk.num_unread; i < slice.count; ++i)
      output_rows_.push_back(static_cast<int32_t>(slice.first_row + i));
    if (chunk.num_unread >= slice.count) continue;
    output_slices_.push_back({.page_table = slice.page_table,
                              .first_row = slice.first_row + chunk.num_unread,
                              .start = slice.start + chunk.num_unread,
                              .count = slice.count - chunk.num_unread});
  }
}

}  // namespace autoglm
