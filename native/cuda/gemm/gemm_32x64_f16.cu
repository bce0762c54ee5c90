// Entry of gemm_tile.cuh for tiles of 32 rows and 64 columns, weights of f16.
#include "cuda/gemm/gemm_tile.cuh"

using namespace autoglm::cuda;

extern "C" __global__ void __launch_bounds__(Tile32x64::kThreads, Tile32x64::kBlocks)
    gemm_32x64_f16(const __grid_constant__ ProductArgs args) {
  multiply_tile<Tile32x64, DeviceLayout::f16>(args);
}
