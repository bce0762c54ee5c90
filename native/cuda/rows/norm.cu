// Entries of norm_kernel.cuh: rows in steps of four floats, or of one where their length forbids it.
#include "cuda/rows/norm_kernel.cuh"

using namespace autoglm::cuda;

extern "C" __global__ void __launch_bounds__(kNormThreads) norm_by_4(const __grid_constant__ NormArgs args) {
  norm_row<4>(args);
}

extern "C" __global__ void __launch_bounds__(kNormThreads) norm_by_1(const __grid_constant__ NormArgs args) {
  norm_row<1>(args);
}
