// The weights of one decoder in the memory of a GPU, as its products read them: DecoderWeights
// (model/decoder_weights.h) in other layouts. All of it is in one arena.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/driver/memory.h"
#include "cuda/product.h"

namespace autoglm::gpu {

struct DeviceNorm {
  const float* weight = nullptr;
  const float* bias = nullptr;  // optional
};

struct DeviceLinear {
  cuda::DeviceMatrix matrix;
  const float* bias = nullptr;  // optional, in the order of the matrix's rows

  bool is_present() const { return matrix.weights != nullptr; }
};

// One matrix for each expert, at equal distances.
struct DeviceExperts {
  cuda::DeviceMatrix first;
  cuda::ExpertRows strides;  // without the pairs, which each step has of its own
};

struct DeviceMoe {
  std::vector<DeviceLinear> router;  // its outputs lie side by side
  const float* correction = nullptr;
  DeviceExperts gate_up;  // rows as gated_row says
  DeviceExperts down;
  DeviceLinear shared_gate_up;  // absent without a shared expert
  DeviceLinear shared_down;
};

struct DeviceLatent {
  DeviceLinear query;  // to all heads' queries, or to their latent
  DeviceLinear kv;     // to rotated dims and latent of the keys
  DeviceNorm query_norm;
  DeviceNorm kv_norm;
  DeviceLinear query_b;    // absent without a latent of the queries
  cuda::DeviceMatrix k_b;  // bf16 whatever the file held, rows of all heads
  cuda::DeviceMatrix v_b;
};

struct DeviceLayer {
  DeviceNorm attention_norm;
  DeviceNorm attention_post_norm;
  DeviceNorm mlp_norm;
  DeviceNorm mlp_post_norm;
  DeviceNorm q_norm;
  DeviceNorm k_norm;
  std::vector<DeviceLinear> qkv;  // its outputs lie side by side
  DeviceLatent latent;            // in place of qkv
  DeviceLinear o;
  DeviceLinear gate_up;  // rows as gated_row says; up alone when the MLP is not gated
  DeviceLinear down;
  DeviceMoe moe;  // in place of gate_up and down
};

struct DeviceWeights {
  cuda::DeviceMatrix embedding;  // of any layout
  cuda::DeviceMatrix position_embedding;
  cuda::DeviceMatrix token_type_embedding;
  DeviceNorm embedding_norm;
  std::vector<DeviceLayer> layers;
  DeviceNorm final_norm;
  DeviceLinear head;  // the embedding's matrix where they are tied

  cuda::Arena arena;
};

}  // namespace autoglm::gpu
