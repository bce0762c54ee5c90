// quantized embedding: out[r] = scale * table[ids[r]] (+ positions[position_ids[r]]) (+ types[type_ids[r]])
// Needs:    ids within their tables; a table in the order of weight_order.h.
// Rounding: code * scale is exact, its sum with a min rounded once to f32; then f32, in the formula's order.
// Cost:     memory bound, 4 bytes written and bits / 8 + 4 / group read per element.
// Twin:     cpu/embedding.cpp.
#include "cuda/quantized/quantized_embedding.h"
#include "cuda/quantized/weight_order.h"
#include "cuda/rows/embedding_row.cuh"

namespace autoglm::cuda {
namespace {

struct RowScale {
  float scale;
  float min;
  float factor;
};

// Of one group of a row.
__device__ RowScale scale_of(const DeviceMatrix& w, int64_t row, int col) {
  const int64_t at = scale_index(w.k, w.group, row, col);
  const float scale = float_of_half(static_cast<const uint16_t*>(w.scales)[at]);
  float min = w.layout == DeviceLayout::w4 ? -8.0f * scale : 0.0f;
  if (w.mins != nullptr) min = float_of_half(static_cast<const uint16_t*>(w.mins)[at]);
  return {scale, min, w.row_factors == nullptr ? 1.0f : w.row_factors[row / kPanelRows]};
}

// Columns col, an even one, and col + 1, which lie in one word.
__device__ EmbeddingPair weight_pair(const DeviceMatrix& w, int64_t row, int col) {
  const int bits = code_bits(w.layout);
  const CodePlace place =
      code_in_slab(bits, static_cast<int>(row % kPanelRows), static_cast<int>(col % kSlabK));
  const auto* slab = static_cast<const uint8_t*>(w.weights) + slab_offset(bits, w.k, row, col);
  const uint32_t word = reinterpret_cast<const uint32_t*>(slab)[place.word] >> place.bit;
  const RowScale s = scale_of(w, row, col);
  float low = static_cast<float>(word & 15);
  float high = static_cast<float>(word >> 16 & 15);
  if (bits == 8) {
    low = static_cast<float>(static_cast<int8_t>(word & 255));
    high = static_cast<float>(static_cast<int8_t>(word >> 16 & 255));
  }
  return {s.factor * multiply_add(low, s.scale, s.min), s.factor * multiply_add(high, s.scale, s.min)};
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kEmbeddingThreads)
    quantized_embedding(const __grid_constant__ autoglm::cuda::QuantizedEmbeddingArgs args) {
  using namespace autoglm::cuda;
  const int32_t id = args.ids[block_x()];
  write_embedding(args, args.table.k, [&](int col) { return weight_pair(args.table, id, col); });
}
