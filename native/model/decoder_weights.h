// The packed weights of one decoder, in the order of execution. All memory is in one arena.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/packed_matrix.h"
#include "memory/region.h"

namespace autoglm {

struct NormWeights {
  const float* weight = nullptr;
  const float* bias = nullptr;  // optional
};

struct Linear {
  PackedMatrix matrix;
  const float* bias = nullptr;  // optional [matrix.n]
};

// Products of one input whose outputs lie side by side. Neighbours of equal packed format are one matrix, so
// that q, k and v (gate and up) are usually a single stage.
struct StackedLinear {
  std::vector<Linear> parts;

  bool needs_int8() const;
  bool needs_float() const;
};

struct LatentWeights {
  StackedLinear down;  // queries or their latent, then rotated dims and latent of the keys
  NormWeights q_norm;
  NormWeights kv_norm;
  Linear q_b;               // absent without a latent of the queries
  std::vector<Linear> k_b;  // by head
  std::vector<Linear> v_b;
};

struct ExpertWeights {
  StackedLinear gate_up;
  Linear down;
};

struct MoeWeights {
  StackedLinear router;               // [experts], and the shared expert's gate as one more output
  const float* correction = nullptr;  // optional [experts]
  std::vector<ExpertWeights> experts;
  ExpertWeights shared;  // empty without a shared expert
};

struct LayerWeights {
  NormWeights attention_norm;
  NormWeights attention_post_norm;
  NormWeights mlp_norm;
  NormWeights mlp_post_norm;
  NormWeights q_norm;
  NormWeights k_norm;
  StackedLinear qkv;
  LatentWeights latent;  // in place of qkv
  Linear o;
  StackedLinear gate_up;  // up alone when the MLP is not gated
  Linear down;
  MoeWeights moe;  // in place of gate_up and down
};

// Where the bytes of the arena came from.
struct WeightsOrigin {
  bool is_packed_file = false;
  std::string refusal;  // why a packed file was not used; empty when none was offered
  uint64_t sample = 0;  // sample_sources
  double pack_ms = 0;   // user time of all threads that packed; 0 from a packed file
};

struct DecoderWeights {
  PackedMatrix embedding;
  PackedMatrix position_embedding;
  PackedMatrix token_type_embedding;
  NormWeights embedding_norm;
  std::vector<LayerWeights> layers;
  NormWeights final_norm;
  Linear head;  // without a matrix when the head is tied to the embedding, or absent
  std::vector<Linear> pooled_layers;

  MemoryRegion arena;  // read-only memory when it is a shared packed file
  WeightsOrigin origin;
  std::unordered_map<std::string, ComputeLayout> layouts;  // what each role became
};

}  // namespace autoglm
