// Arguments and launch of embedding.cu.
#pragma once

#include <cstdint>

#include "cuda/bf16.h"
#include "cuda/device_matrix.h"
#include "cuda/launch_shape.h"

namespace autoglm::cuda {

// Fields as in EmbeddingParams (base/op_params.h), tables as rows of 16-bit floats without gaps.
struct EmbeddingArgs {
  const void* table = nullptr;            // [vocab, hidden], bf16 or f16: `layout`
  const int32_t* ids = nullptr;           // [num_rows]
  const Bf16* positions = nullptr;        // optional [positions, hidden]
  const int32_t* position_ids = nullptr;  // [num_rows] when `positions` is present
  const Bf16* types = nullptr;            // optional [token types, hidden]
  const int32_t* type_ids = nullptr;      // [num_rows] when `types` is present
  float* out = nullptr;                   // [num_rows, hidden]
  int32_t num_rows = 0;
  int32_t hidden = 0;  // even
  float scale = 1;
  DeviceLayout layout = DeviceLayout::bf16;
};

LaunchShape embedding_launch(const EmbeddingArgs& args);

}  // namespace autoglm::cuda
