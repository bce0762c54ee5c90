#include "cuda/quantized/quantized_embedding.h"

namespace autoglm::cuda {

LaunchShape quantized_embedding_launch(const QuantizedEmbeddingArgs& args) {
  if (args.num_rows == 0) return {};
  return {
      .kernel = "quantized_embedding", .grid_x = static_cast<unsigned>(args.num_rows), .num_threads = 128};
}

}  // namespace autoglm::cuda
