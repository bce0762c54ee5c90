#include "runtime/pooled_requests.h"

#include <algorithm>
#include <cmath>

#include "model/pooled_layers.h"

namespace autoglm {
namespace {

// Adds what the chunk's rows of `hidden` contribute to the vector of its request.
void accumulate(const PooledChunk& chunk, TensorView<const float> hidden) {
  const std::span<double> sum = chunk.row->pooled_sum();
  int64_t first = 0;
  int64_t last = chunk.count;
  if (chunk.row->pooling() == Pooling::first) last = chunk.start == 0 ? 1 : 0;
  if (chunk.row->pooling() == Pooling::last) first = chunk.is_last() ? chunk.count - 1 : chunk.count;
  for (int64_t i = first; i < last; ++i) {
    const float* values = hidden.row(chunk.first_output + i);
    for (size_t col = 0; col < sum.size(); ++col) sum[col] += values[col];
  }
}

// Mean pooling divides by all tokens, the special ones included, as sentence-transformers does.
void write_vector(const Row& row, std::span<const double> sum, float* out) {
  const double divisor = row.pooling() == Pooling::mean ? static_cast<double>(row.num_tokens()) : 1.0;
  for (size_t col = 0; col < sum.size(); ++col) out[col] = static_cast<float>(sum[col] / divisor);
}

}  // namespace

void PooledRequests::answer(const Execution& execution, BackEnd& back_end) {
  if (chunks_.empty()) return;
  const TensorView<const float> hidden = back_end.final_hidden(execution);
  execution.pool().run(static_cast<int64_t>(chunks_.size()),
                       [&](int64_t index, int) { accumulate(chunks_[static_cast<size_t>(index)], hidden); });
  finished_.clear();
  for (PooledChunk& chunk : chunks_) {
    if (chunk.is_last()) finished_.push_back(&chunk);
  }
  vectors_.resize(static_cast<size_t>(PooledLayers::kMaxRows * hidden.num_cols));
  const std::span<PooledChunk* const> finished = finished_;
  for (size_t first = 0; first < finished.size(); first += PooledLayers::kMaxRows) {
    const size_t count = std::min<size_t>(PooledLayers::kMaxRows, finished.size() - first);
    write_answers(execution, back_end, finished.subspan(first, count));
  }
}

void PooledRequests::write_answers(const Execution& execution, BackEnd& back_end,
                                   std::span<PooledChunk* const> finished) {
  const int64_t hidden_size = back_end.spec().hidden_size;
  const TensorView<float> vectors(vectors_.data(), static_cast<int64_t>(finished.size()), hidden_size);
  for (size_t i = 0; i < finished.size(); ++i) {
    write_vector(*finished[i]->row, finished[i]->row->pooled_sum(), vectors.row(static_cast<int64_t>(i)));
  }
  const TensorView<const float> answers = back_end.apply_pooled_layers(execution, vectors);
  for (size_t i = 0; i < finished.size(); ++i) {
    const std::span<const float> answer(answers.row(static_cast<int64_t>(i)),
                                        static_cast<size_t>(answers.num_cols));
    std::ranges::copy(answer, finished[i]->output.begin());
    finished[i]->is_numeric_error = !std::ranges::all_of(answer, [](float x) { return std::isfinite(x); });
  }
}

}  // namespace autoglm
