// repack floats: rows of bf16, or of f16, from the CPU's panels of 32 rows in f32, f16 or bf16
// Shapes: RepackFloatsArgs. Panels: base/packed_matrix.h.
// Needs:    16-byte aligned destination rows.
// Rounding: to bf16 to nearest even; what the panels hold already as it is.
// Cost:     memory bound, 4 to 6 bytes moved per weight, both sides in whole sectors.
#include "base/packed_matrix.h"
#include "cuda/device/ptx.cuh"
#include "cuda/gemm/repack_floats.h"
#include "cuda/gemm/repack_storage.h"

namespace autoglm::cuda {
namespace {

constexpr int kLanes = static_cast<int>(kPanelRows);
static_assert(kLanes == kWarpSize);

// Columns 2 pair and 2 pair + 1 of one row of the panel; zeros from k on.
__device__ uint32_t load_pair(const RepackFloatsArgs& args, const char* panel, int pair, int lane) {
  if (2 * pair >= args.k) return 0;
  const bool is_whole = 2 * pair + 1 < args.k;
  const int at = 2 * pair * kLanes + lane;
  if (args.layout == ComputeLayout::f32) {
    const auto* values = reinterpret_cast<const float*>(panel);
    return pack_bf16(values[at], is_whole ? values[at + kLanes] : 0.0f);
  }
  if (args.layout == ComputeLayout::f16) {
    const auto* values = reinterpret_cast<const uint16_t*>(panel);
    if (args.destination_layout == DeviceLayout::f16) {
      return values[at] | (is_whole ? uint32_t{values[at + kLanes]} << 16 : 0);
    }
    return pack_bf16(float_of_half(values[at]), is_whole ? float_of_half(values[at + kLanes]) : 0.0f);
  }
  return reinterpret_cast<const uint32_t*>(panel)[pair * kLanes + lane];
}

// One block per panel and kRepackCols columns: a warp reads a pair of columns of all rows, then the block
// writes 16 bytes of a row per thread.
__device__ void repack_panel(const RepackFloatsArgs& args) {
  auto& storage = shared_storage<RepackStorage>();
  const int first_col = block_y() * kRepackCols;
  const int64_t first_row = int64_t{block_x()} * kLanes;
  const PackedFormat format{.layout = args.layout};
  const char* panel = static_cast<const char*>(args.panels) + block_x() * panel_bytes(format, args.k);
  const int lane = thread_x() % kWarpSize;
  for (int pair = thread_x() / kWarpSize; pair < kRepackPairs; pair += kRepackThreads / kWarpSize) {
    storage.pairs[lane][pair] = load_pair(args, panel, first_col / 2 + pair, lane);
  }
  sync_threads();
  const int row = thread_x() / (kRepackPairs / 4);
  const int word = thread_x() % (kRepackPairs / 4) * 4;
  const int col = first_col + 2 * word;
  if (first_row + row >= args.num_rows || col >= args.row_stride) return;
  Words4 out;
#pragma unroll
  for (int i = 0; i < 4; ++i) out.word[i] = storage.pairs[row][word + i];
  const int64_t to = args.first_destination_row + mapped_row(args.mapping, args.first_row + first_row + row);
  *reinterpret_cast<Words4*>(args.destination + to * args.row_stride + col) = out;
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kRepackThreads)
    repack_floats(const __grid_constant__ autoglm::cuda::RepackFloatsArgs args) {
  autoglm::cuda::repack_panel(args);
}
