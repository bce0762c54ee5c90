// What the gate lets pass: the budget beside this file fits.
#include "planted.h"

extern "C" __global__ void __launch_bounds__(128) sound(const float* in, float* out) {
  __shared__ float values[kValues];
  values[threadIdx.x % kValues] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) % kValues];
}
