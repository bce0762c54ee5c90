#include <algorithm>

#include "cuda/gemm/activate.h"
#include "cuda/gemm/gemm_storage.h"
#include "cuda/gemm/lora_storage.h"
#include "cuda/gemm/repack_floats.h"
#include "cuda/gemm/repack_storage.h"

namespace autoglm::cuda {

LaunchShape repack_floats_launch(const RepackFloatsArgs& args) {
  if (args.num_rows == 0) return {};
  return {.kernel = "repack_floats",
          .grid_x = static_cast<unsigned>(ceil_div(args.num_rows, kPanelRows)),
          .grid_y = static_cast<unsigned>(ceil_div(args.row_stride, kRepackCols)),
          .num_threads = kRepackThreads,
          .shared_bytes = sizeof(RepackStorage)};
}

std::vector<LoraRun> cut_lora_runs(std::span<const LoraRun> runs) {
  std::vector<LoraRun> pieces;
  for (const LoraRun& run : runs) {
    for (int32_t first = 0; first < run.num_rows; first += kLoraRows) {
      pieces.push_back({run.first_row + first, std::min(kLoraRows, run.num_rows - first), run.adapter});
    }
  }
  return pieces;
}

LaunchShape lora_shrink_launch(const LoraArgs& args) {
  if (args.num_runs == 0 || args.max_rank == 0) return {};
  return {.kernel = "lora_shrink",
          .grid_x = static_cast<unsigned>(args.num_runs),
          .grid_y = static_cast<unsigned>(args.max_rank / kGemvWeightRows * (kLoraRows / kShrinkRows)),
          .num_threads = kGemvThreads,
          .shared_bytes = (kGemvThreads / 32) * kShrinkRows * kGemvWeightRows * sizeof(float)};
}

LaunchShape lora_expand_launch(const LoraArgs& args) {
  if (args.num_runs == 0 || args.max_rank == 0) return {};
  return {.kernel = "lora_expand",
          .grid_x = static_cast<unsigned>(args.num_runs),
          .grid_y = static_cast<unsigned>(ceil_div(args.num_cols, kExpandThreads)),
          .num_threads = kExpandThreads};
}

LaunchShape activate_launch(const ActivateArgs& args) {
  if (args.num_rows == 0) return {};
  return {.kernel = "activate",
          .grid_x = static_cast<unsigned>(args.num_rows),
          .grid_y = static_cast<unsigned>(ceil_div(args.num_cols, 256)),
          .num_threads = 256};
}

}  // namespace autoglm::cuda
