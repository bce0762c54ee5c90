// kv append: q_out[r, h] = q_scale * rope(norm(q[r, h])), K page = rope(norm(k)), V page = v
// Shapes and formulas: KvAppendArgs, KvAppendParams in base/op_params.h. Layout: page_layout.h.
// Needs:    head_dim % 16 == 0, head_dim <= 256; no two rows in the same slot.
// Rounding: f32 until the one rounding to bf16.
// Cost:     memory bound, 6 bytes moved per element.
// Twin:     cpu/kv_append_kernel.h.
#include "cuda/attention/page_layout.h"
#include "cuda/device/ptx.cuh"
#include "cuda/rows/kv_append.h"

namespace autoglm::cuda {
namespace {

constexpr int kWarps = 4;  // one head each
constexpr int kMaxHeadDim = 256;

struct AppendStorage {
  float heads[kWarps][kMaxHeadDim];
};

struct HeadNorm {
  const float* weight;
  const float* bias;
};

__device__ float sum_of_warp(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

__device__ void norm_head(const KvAppendArgs& args, const HeadNorm& norm, float* head) {
  const int lane = thread_x() % kWarpSize;
  const float count = static_cast<float>(args.head_dim);
  float mean = 0;
  if (args.qk_norm_kind == NormKind::layer) {
    float sum = 0;
    for (int dim = lane; dim < args.head_dim; dim += kWarpSize) sum += head[dim];
    mean = sum_of_warp(sum) / count;
  }
  float squares = 0;
  for (int dim = lane; dim < args.head_dim; dim += kWarpSize) {
    squares = multiply_add(head[dim] - mean, head[dim] - mean, squares);
  }
  const float factor = 1.0f / sqrtf(sum_of_warp(squares) / count + args.qk_norm_epsilon);
  for (int dim = lane; dim < args.head_dim; dim += kWarpSize) {
    const float gain = args.qk_norm_has_unit_offset ? norm.weight[dim] + 1.0f : norm.weight[dim];
    const float shift = norm.bias == nullptr ? 0.0f : norm.bias[dim];
    head[dim] = multiply_add((head[dim] - mean) * factor, gain, shift);
  }
}

// Dim `dim` of the head after rotation; dims from rotary_dim on stay.
__device__ float rotated(const KvAppendArgs& args, const float* cos_sin, const float* head, int dim) {
  if (dim >= args.rotary_dim) return head[dim];
  const int half = args.rotary_dim / 2;
  const bool is_split = args.rope_style == RopeStyle::half_split;
  const int pair = is_split ? dim % half : dim / 2;
  const bool is_second = is_split ? dim >= half : dim % 2 == 1;
  const float first = head[is_split ? pair : 2 * pair];
  const float second = head[is_split ? pair + half : 2 * pair + 1];
  const float cosine = cos_sin[pair];
  const float sine = cos_sin[half + pair];
  return is_second ? multiply_add(first, sine, second * cosine) : multiply_add(second, -sine, first * cosine);
}

// One warp per (row, head); heads are those of q, then of k, then of v.
__device__ void append_head(const KvAppendArgs& args) {
  auto& storage = shared_storage<AppendStorage>();
  const int lane = thread_x() % kWarpSize;
  const int warp = thread_x() / kWarpSize;
  const int64_t row = block_x();
  const int index = block_y() * kWarps + warp;
  const int num_heads = args.num_q_heads + 2 * args.num_kv_heads;
  if (index >= num_heads) return;
  const bool is_query = index < args.num_q_heads;
  const bool is_key = !is_query && index < args.num_q_heads + args.num_kv_heads;
  const int head_of_kind = is_query ? index : (index - args.num_q_heads) % args.num_kv_heads;
  const float* from = is_query ? args.q + row * args.q_stride
                               : (is_key ? args.k + row * args.k_stride : args.v + row * args.v_stride);
  from += int64_t{head_of_kind} * args.head_dim;
  float* head = storage.heads[warp];
  for (int dim = lane; dim < args.head_dim; dim += kWarpSize) head[dim] = from[dim];
  sync_warp();

  const HeadNorm norm =
      is_query ? HeadNorm{args.q_norm, args.q_norm_bias} : HeadNorm{args.k_norm, args.k_norm_bias};
  const bool is_value = !is_query && !is_key;
  if (!is_value && norm.weight != nullptr) {
    norm_head(args, norm, head);
    sync_warp();
  }

  const float scale = is_query ? args.q_scale : 1.0f;
  const float* cos_sin = args.cos_sin + row * args.rotary_dim;
  const int64_t slot = is_query ? 0 : args.slots[row];
  if (slot < 0) return;
  const int in_page = static_cast<int>(slot % kPageTokens);
  Bf16* tile = is_query
                   ? args.q_out + (row * args.num_q_heads + index) * args.head_dim
                   : args.pages +
                         key_tile_offset(slot / kPageTokens, head_of_kind, args.num_kv_heads, args.head_dim) +
                         (is_key ? 0 : tile_elements(args.head_dim));
  for (int dim = 2 * lane; dim < args.head_dim; dim += 2 * kWarpSize) {
    const float low = is_value ? head[dim] : rotated(args, cos_sin, head, dim) * scale;
    const float high = is_value ? head[dim + 1] : rotated(args, cos_sin, head, dim + 1) * scale;
    const int offset = is_query ? dim : offset_in_tile(in_page, dim, args.head_dim);
    *reinterpret_cast<uint32_t*>(tile + offset) = pack_bf16(low, high);
  }
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kWarps* autoglm::cuda::kWarpSize)
    kv_append(const __grid_constant__ autoglm::cuda::KvAppendArgs args) {
  autoglm::cuda::append_head(args);
}
