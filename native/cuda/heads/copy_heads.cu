// copy heads: a part of every head's columns into wider or narrower heads, f32 or bf16 on either side
// Shapes:   CopyHeadsArgs, CopyHeadsParams in ops/copy_heads.h.
// Needs:    pointers and strides aligned to kWidth elements, count % kWidth == 0.
// Rounding: f32 to bf16 to nearest even; others are exact.
// Cost:     memory bound, 4 to 8 bytes moved per element.
// Twin:     ops/copy_heads.cpp.
#include "cuda/device/ptx.cuh"
#include "cuda/heads/copy_heads.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 128;

template <int kWidth>
struct alignas(kWidth * sizeof(float)) Floats {
  float value[kWidth];
};
template <int kWidth>
struct alignas(kWidth * sizeof(Bf16)) Bf16s {
  Bf16 value[kWidth];
};

template <int kWidth>
__device__ Floats<kWidth> load_values(const CopyHeadsArgs& args, int64_t offset) {
  if (args.in != nullptr) return *reinterpret_cast<const Floats<kWidth>*>(args.in + offset);
  const auto rounded = *reinterpret_cast<const Bf16s<kWidth>*>(args.in_bf16 + offset);
  Floats<kWidth> values;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) values.value[i] = float_of_bits(uint32_t{rounded.value[i].bits} << 16);
  return values;
}

template <int kWidth>
__device__ void store_values(const CopyHeadsArgs& args, int64_t offset, const Floats<kWidth>& values) {
  if (args.out != nullptr) {
    *reinterpret_cast<Floats<kWidth>*>(args.out + offset) = values;
    return;
  }
  Bf16s<kWidth> rounded;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    rounded.value[i].bits = static_cast<uint16_t>(pack_bf16(values.value[i], 0));
  }
  *reinterpret_cast<Bf16s<kWidth>*>(args.out_bf16 + offset) = rounded;
}

// kWidth columns of one head of one row per thread.
template <int kWidth>
__device__ void copy_columns(const CopyHeadsArgs& args) {
  const int64_t row = block_x();
  const int index = (block_y() * kThreads + thread_x()) * kWidth;
  const int head = index / args.count;
  const int col = index % args.count;
  if (head >= args.num_heads) return;
  store_values<kWidth>(
      args, row * args.out_row_stride + head * args.out_head_stride + col,
      load_values<kWidth>(args, row * args.in_row_stride + head * args.in_head_stride + col));
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    copy_heads_by_4(const __grid_constant__ autoglm::cuda::CopyHeadsArgs args) {
  autoglm::cuda::copy_columns<4>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    copy_heads_by_1(const __grid_constant__ autoglm::cuda::CopyHeadsArgs args) {
  autoglm::cuda::copy_columns<1>(args);
}
