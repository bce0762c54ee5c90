// Arguments and launch of quantized_embedding.cu.
#pragma once

#include <cstdint>

#include "cuda/bf16.h"
#include "cuda/device_matrix.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Fields as in EmbeddingArgs (rows/embedding.h), the table being a matrix of layout w4 or w8: the head of a
// model whose head and embedding are one.
struct QuantizedEmbeddingArgs {
  DeviceMatrix table;                     // [vocab, hidden]
  const int32_t* ids = nullptr;           // [num_rows]
  const Bf16* positions = nullptr;        // optional [positions, hidden]
  const int32_t* position_ids = nullptr;  // [num_rows] when `positions` is present
  const Bf16* types = nullptr;            // optional [token types, hidden]
  const int32_t* type_ids = nullptr;      // [num_rows] when `types` is present
  float* out = nullptr;                   // [num_rows, hidden], 8-byte aligned
  int32_t num_rows = 0;
  float scale = 1;
};

LaunchShape quantized_embedding_launch(const QuantizedEmbeddingArgs& args);

}  // namespace autoglm::cuda
