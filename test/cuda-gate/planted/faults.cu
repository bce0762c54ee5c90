// One fault per kernel. The budget beside this file says what the gate expects of each.

// An array with an index known at run time only: a stack frame without spills.
extern "C" __global__ void __launch_bounds__(128) stack_frame(const int* in, int* out, int n) {
  int values[64];
  for (int i = 0; i < n; ++i) values[in[i] & 63] = in[i + 1];
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += values[in[i + 2] & 63];
  out[threadIdx.x] = sum;
}

// 1,024 threads leave 64 registers for 128 values.
extern "C" __global__ void __launch_bounds__(1024) spills(const float* in, float* out) {
  float values[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) values[i] = in[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 128; ++i) out[i * 1024 + threadIdx.x] = values[i] * values[(i * 7 + 3) % 128];
}

extern "C" __global__ void __launch_bounds__(128) float64(const float* in, float* out) {
  out[threadIdx.x] = static_cast<float>(in[threadIdx.x] * 0.1);
}

extern "C" __global__ void __launch_bounds__(128) generic_address(int* global, int is_shared) {
  __shared__ int values[128];
  values[threadIdx.x] = global[threadIdx.x];
  __syncthreads();
  int* either = is_shared != 0 ? values : global;
  either[127 - threadIdx.x] += 1;
  __syncthreads();
  global[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(128) without_tensor_cores(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x] * in[0];
}

extern "C" __global__ void __launch_bounds__(128) too_many_registers(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(128) other_shared_size(const float* in, float* out) {
  __shared__ float values[32];
  values[threadIdx.x % 32] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) % 32];
}

extern "C" __global__ void other_bounds(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }

extern "C" __global__ void __launch_bounds__(128) not_in_budget(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x];
}
