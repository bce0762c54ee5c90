// Entry of gemm_tile.cuh for tiles of 64 rows and 128 columns, weights of bf16.
#include "cuda/gemm/gemm_tile.cuh"

using namespace autoglm::cuda;

extern "C" __global__ void __launch_bounds__(Tile64x128::kThreads, Tile64x128::kBlocks)
    gemm_64x128(const __grid_constant__ ProductArgs args) {
  multiply_tile<Tile64x128, DeviceLayout::bf16>(args);
}
