#include "model/gpu/host_layers.h"

#include <utility>

namespace autoglm::gpu {
namespace {

const std::byte* first_matrix(const LayerWeights& layer) {
  if (layer.latent.q_b.matrix.is_present()) return layer.latent.q_b.matrix.panels;
  const StackedLinear& first = layer.latent.down.parts.empty() ? layer.qkv : layer.latent.down;
  return first.parts.front().matrix.panels;
}

const float* first_vector(const DecoderWeights& weights) {
  if (weights.embedding_norm.weight != nullptr) return weights.embedding_norm.weight;
  return weights.layers.front().attention_norm.weight;
}

// The arena holds all matrices in the order of execution (model/weight_layout.cpp), then all vectors.
std::unique_ptr<DecoderWeights> first_layers(std::unique_ptr<DecoderWeights> weights, int64_t num_layers) {
  MemoryRegion& arena = weights->arena;
  const std::byte* const from = first_matrix(weights->layers[static_cast<size_t>(num_layers)]);
  const auto* const to = reinterpret_cast<const std::byte*>(first_vector(*weights));
  weights->layers.resize(static_cast<size_t>(num_layers));
  weights->final_norm = {};
  weights->head = {};
  weights->pooled_layers.clear();
  arena.give_back(from - arena.data(), to - from);
  return weights;
}

}  // namespace

HostLayers::HostLayers(const DecoderSpec& spec, std::unique_ptr<DecoderWeights> weights,
                       const Settings& settings)
    : decoder_(spec.first_layers(settings.num_layers), first_layers(std::move(weights), settings.num_layers),
               settings.kv_dtype, settings.max_step_tokens),
      kv_pool_(decoder_.page_bytes(), settings.num_pages) {}

MemoryUse HostLayers::memory() const {
  return {.weight_bytes = weights().arena.held_bytes(),
          .kv_bytes = kv_pool_.num_bytes(),
          .scratch_bytes = decoder_.scratch_bytes()};
}

TensorView<const float> HostLayers::run(const Execution& execution, std::span<const SequenceChunk> chunks) {
  chunks_.assign(chunks.begin(), chunks.end());
  for (SequenceChunk& chunk : chunks_) chunk.num_unread = 0;
  decoder_.forward(execution, chunks_, kv_pool_);
  const TensorView<const float> hidden = decoder_.final_hidden(execution);
  execution.finish();
  return hidden;
}

}  // namespace autoglm::gpu
