// Entry of gemm_tile.cuh for tiles of 128 rows and 256 columns, weights of bf16.
#include "cuda/gemm/gemm_tile.cuh"

using namespace autoglm::cuda;

extern "C" __global__ void __launch_bounds__(Tile128x256::kThreads, Tile128x256::kBlocks)
    gemm_128x256(const __grid_constant__ ProductArgs args) {
  multiply_tile<Tile128x256, DeviceLayout::bf16>(args);
}
