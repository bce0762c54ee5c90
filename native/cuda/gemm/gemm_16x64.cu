// Entry of gemm_tile.cuh for tiles of 16 rows and 64 columns, weights of bf16.
#include "cuda/gemm/gemm_tile.cuh"

using namespace autoglm::cuda;

extern "C" __global__ void __launch_bounds__(Tile16x64::kThreads, Tile16x64::kBlocks)
    gemm_16x64(const __grid_constant__ ProductArgs args) {
  multiply_tile<Tile16x64, DeviceLayout::bf16>(args);
}
