// The device's memory for one step, sized for the widest layer and the largest step.
#pragma once

#include <cstdint>
#include <memory>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "cuda/product.h"
#include "model/decoder_spec.h"
#include "model/gpu/device_weights.h"

namespace autoglm::gpu {

// Columns are those of the widest layer from `first_layer` on.
struct GpuScratch {
  GpuScratch(const DecoderSpec& spec, const DeviceWeights& weights, cuda::Stream& stream, int64_t first_layer,
             int64_t max_rows, int64_t max_logit_rows);

  float* residual = nullptr;         // [rows, hidden]
  float* sublayer = nullptr;         // [rows, hidden]: output of a sub-layer that still has to be normed
  cuda::Bf16* input = nullptr;       // [rows, hidden]
  float* qkv = nullptr;              // [rows, q + k + v]
  cuda::Bf16* rotated_q = nullptr;   // [rows, q]
  cuda::Bf16* attended = nullptr;    // [rows, q_heads * value_dim]
  cuda::Bf16* activated = nullptr;   // [rows, intermediate], or of pairs
  cuda::Bf16* head_input = nullptr;  // [logit rows, hidden]
  float* logits = nullptr;           // [logit rows, vocab]
  int32_t* logit_rows = nullptr;     // [rows]: which rows of the residual are read

  // Of a mixture of experts, where a layer has one.
  float* router_logits = nullptr;  // [rows, experts + 1]
  int32_t* experts = nullptr;      // [rows, chosen]
  float* expert_weights = nullptr;
  int32_t* first_pairs = nullptr;  // [experts + 1]
  int32_t* pair_rows = nullptr;    // [rows * chosen]
  int32_t* pair_of = nullptr;      // [rows, chosen]
  int32_t* pair_counts = nullptr;
  float* down = nullptr;                   // [rows * chosen, hidden]
  cuda::Bf16* shared_activated = nullptr;  // [rows, shared intermediate]
  float* shared_down = nullptr;            // [rows, hidden]

  // Of latent attention.
  float* latent_query = nullptr;       // [rows, query rank or heads * (nope + rope)]
  cuda::Bf16* normed_query = nullptr;  // [rows, query rank]
  float* query_heads = nullptr;        // [rows, heads * (nope + rope)]
  float* latent_kv = nullptr;          // [rows, rope + rank]
  cuda::Bf16* expanded = nullptr;      // [rows, heads * output_dim]

  void* workspace = nullptr;  // of products
  int64_t logits_stride = 0;  // floats

  int64_t num_bytes() const { return static_cast<int64_t>(arena_.size()); }

 private:
  class Layout;
  cuda::Arena arena_;
};

// The launch of a product, by the layout of its weights.
cuda::LaunchShape product_launch(const cuda::ProductArgs& args);

}  // namespace autoglm::gpu
