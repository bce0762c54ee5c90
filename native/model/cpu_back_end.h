// The decoder on the processor's threads, with its KV pages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "memory/kv_pool.h"
#include "model/back_end.h"
#include "model/decoder.h"

namespace autoglm {

class CpuBackEnd final : public BackEnd {
 public:
  // At most `max_logit_rows` of logits are computed at once. Throws out_of_memory.
  CpuBackEnd(Decoder decoder, int64_t num_pages, int64_t max_logit_rows)
      : decoder_(std::move(decoder)), kv_pool_(decoder_.page_bytes(), num_pages) {
    if (!decoder_.spec().head) return;
    max_logit_rows_ = std::min(max_logit_rows, Decoder::kMaxLogitRows);
    logits_.resize(static_cast<size_t>(max_logit_rows_ * decoder_.spec().vocab_size));
  }

  const DecoderSpec& spec() const override { return decoder_.spec(); }
  const DecoderWeights& weights() const override { return decoder_.weights(); }
  ModelMemory memory() const override {
    const auto logit_bytes = static_cast<int64_t>(logits_.size() * sizeof(float));
    return {.host = {.weight_bytes = decoder_.weights().arena.size(),
                     .kv_bytes = kv_pool_.num_bytes(),
                     .scratch_bytes = decoder_.scratch_bytes() + logit_bytes},
            .device = {}};
  }
  int64_t num_pages() const override { return kv_pool_.num_pages(); }
  int64_t num_row_rope_tables() const override { return decoder_.num_row_rope_tables(); }
  int64_t max_logit_rows() const override { return max_logit_rows_; }

  void forward(const Execution& execution, std::span<const SequenceChunk> chunks) override {
    decoder_.forward(execution, chunks, kv_pool_);
  }
  TensorView<float> compute_logits(const Execution& execution, std::span<const int32_t> rows) override {
    const TensorView<float> logits(logits_.data(), static_cast<int64_t>(rows.size()), spec().vocab_size);
    decoder_.compute_logits(execution, rows, logits);
    return logits;
  }
  TensorView<const float> final_hidden(const Execution& execution) override {
    return decoder_.final_hidden(execution);
  }
  TensorView<const float> apply_pooled_layers(const Execution& execution,
                                              TensorView<const float> vectors) override {
    return decoder_.apply_pooled_layers(execution, vectors);
  }
  void finish(const Execution& execution) override { execution.finish(); }

 private:
  Decoder decoder_;
  KvPool kv_pool_;
  int64_t max_logit_rows_ = 0;
  std::vector<float> logits_;  // [max_logit_rows, vocab_size]
};

}  // namespace autoglm
