// Decoders of the shapes of the bars with random weights, packed as a load would have left them.
#pragma once

#include <memory>

#include "model/decoder_spec.h"
#include "model/decoder_weights.h"

namespace autoglm::bench {

// What the matrices are: bfloat16, or a Q4_0 file's, whose head (or tied embedding) is Q6_K.
enum class WeightForm : uint8_t { bf16, q4_0 };

struct ModelShape {
  const char* name;
  int64_t num_layers;
  int64_t hidden_size;
  int64_t intermediate_size;
  int64_t num_q_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t vocab_size;
  bool is_tied;
};
// Llama 3.1 8B and Llama 3.2 1B.
inline constexpr ModelShape k8b = {"8B", 32, 4096, 14'336, 32, 8, 128, 128'256, false};
inline constexpr ModelShape k1b = {"1B", 16, 2048, 8192, 32, 8, 64, 128'256, true};
inline constexpr ModelShape kToy = {"toy", 2, 64, 96, 4, 2, 16, 96, false};
inline constexpr ModelShape kTiedToy = {"tied toy", 2, 64, 96, 4, 2, 16, 96, true};

DecoderSpec spec_of(const ModelShape& shape, int64_t context_length);

// All layers have the weights of one: the host holds 2.5 GB of an 8B model, and the device all of it.
std::unique_ptr<DecoderWeights> random_weights(const DecoderSpec& spec, WeightForm form);

// Bytes of KV in bfloat16 that a step of one sequence of `num_tokens` reads.
double kv_bytes(const ModelShape& shape, double num_tokens);

}  // namespace autoglm::bench
