// The rows of a step's result: base/step_records.def.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "runtime/step_plan.h"
#include "runtime/step_records.h"

namespace autoglm {

template <typename Word>
std::span<Word> result_row(std::span<Word> result, size_t row_idx) {
  const size_t start = abi::kResultHeaderWords + row_idx * abi::Limits::resultRowWords;
  return result.subspan(start, abi::Limits::resultRowWords);
}

inline void write_unanswered_row(std::span<int32_t> row, const EntryRecord& entry, int32_t finish) {
  row[abi::ResultRow::row] = entry.row;
  row[abi::ResultRow::generation] = entry.generation;
  row[abi::ResultRow::numTokens] = 0;
  row[abi::ResultRow::token] = -1;
  row[abi::ResultRow::finish] = finish;
  row[abi::ResultRow::logprob] = std::bit_cast<int32_t>(std::numeric_limits<float>::quiet_NaN());
  row[abi::ResultRow::numTop] = 0;
}

}  // namespace autoglm
