// The first layers of a model whose last ones a GPU has: the processor's decoder of these alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/kv_pool.h"
#include "model/back_end.h"
#include "model/decoder.h"

namespace autoglm::gpu {

class HostLayers {
 public:
  struct Settings {
    int64_t num_layers = 0;  // at least 1
    KvDtype kv_dtype = KvDtype::bf16;
    int64_t num_pages = 0;
    int64_t max_step_tokens = 0;
  };

  // `spec` and `weights` are those of the whole model; what is behind its layers is given back to the system.
  // Throws out_of_memory.
  HostLayers(const DecoderSpec& spec, std::unique_ptr<DecoderWeights> weights, const Settings& settings);

  // Without what was given back.
  const DecoderWeights& weights() const { return decoder_.weights(); }
  MemoryUse memory() const;

  // Hidden states [rows, hidden] of all rows of the chunks, also of those that nobody reads. Waits for them;
  // they are valid until the next run.
  TensorView<const float> run(const Execution& execution, std::span<const SequenceChunk> chunks);

 private:
  Decoder decoder_;
  KvPool kv_pool_;
  std::vector<SequenceChunk> chunks_;  // of the step, all of whose rows are outputs
};

}  // namespace autoglm::gpu
