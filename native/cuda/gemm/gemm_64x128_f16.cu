// Entry of gemm_tile.cuh for tiles of 64 rows and 128 columns, weights of f16.
#include "cuda/gemm/gemm_tile.cuh"

using namespace autoglm::cuda;

extern "C" __global__ void __launch_bounds__(Tile64x128::kThreads, Tile64x128::kBlocks)
    gemm_64x128_f16(const __grid_constant__ ProductArgs args) {
  multiply_tile<Tile64x128, DeviceLayout::f16>(args);
}
