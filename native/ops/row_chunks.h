// How operations on single rows are shared out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/checked.h"
#include "ops/execution.h"

namespace autoglm {

// About four chunks per thread, so that a thread that loses its core costs little, but no chunk below 4,096
// values, which take about as long as handing a chunk out.
inline int64_t rows_per_chunk(const Execution& execution, int64_t num_rows, int64_t num_cols) {
  constexpr int64_t kMinValues = 4096;
  const int64_t rows_for_balance = ceil_div(num_rows, int64_t{4} * execution.num_threads());
  const int64_t rows_for_size = ceil_div(kMinValues, std::max<int64_t>(num_cols, 1));
  return std::max({rows_for_balance, rows_for_size, int64_t{1}});
}

// Calls body(first_row, last_row), of which a copy is kept.
template <typename Body>
void for_row_chunks(const Execution& execution, int64_t num_rows, int64_t num_cols, const Body& body) {
  const int64_t chunk_rows = rows_per_chunk(execution, num_rows, num_cols);
  execution.run(ceil_div(num_rows, chunk_rows), [=](int64_t chunk, int) {
    body(chunk * chunk_rows, std::min(num_rows, (chunk + 1) * chunk_rows));
  });
}

}  // namespace autoglm
