// kv append: q_out[r, h] = q_scale * rope(norm(q[r, h])), K page = rope(norm(k)), V page = v
// Shapes and formulas: KvAppendArgs, KvAppendParams in base/op_params.h. Layout: page_layout.h.
// Needs:    head_dim % 16 == 0, head_dim <= kMaxAppendedDim; no two rows in the same slot.
// Rounding: f32 until the one rounding to bf16, or to codes.
// Cost:     memory bound, 5 or 6 bytes moved per element.
// Twin:     cpu/kv_append_kernel.h.
#include "cuda/attention/kv_codes.h"
#include "cuda/attention/page_layout.h"
#include "cuda/device/ptx.cuh"
#include "cuda/rows/kv_append.h"

namespace autoglm::cuda {
namespace {

constexpr int kWarps = 4;  // one head each

struct AppendStorage {
  float heads[kWarps][kMaxAppendedDim];
};

// What a warp does. Heads are those of q, then of k, then of v.
struct HeadTask {
  int head;  // of its kind
  bool is_query;
  bool is_key;
  const float* from;
  const float* norm;  // null for none
  const float* norm_bias;
  int first_normed;
};

struct Couple {
  float low;
  float high;
};

__device__ HeadTask task_of(const KvAppendArgs& args, int64_t row, int index) {
  const int in_kv = index - args.num_q_heads;
  HeadTask task{};
  task.is_query = in_kv < 0;
  task.is_key = !task.is_query && in_kv < args.num_kv_heads;
  if (task.is_query) {
    task.head = index;
    task.from = args.q + row * args.q_stride;
    task.norm = args.q_norm;
    task.norm_bias = args.q_norm_bias;
  } else {
    task.head = in_kv % args.num_kv_heads;
    task.from = task.is_key ? args.k + row * args.k_stride : args.v + row * args.v_stride;
    task.norm = task.is_key ? args.k_norm : nullptr;
    task.norm_bias = args.k_norm_bias;
    task.first_normed = args.first_normed_k;
  }
  task.from += int64_t{task.head} * args.head_dim;
  return task;
}

__device__ float sum_of_warp(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

// Norms `count` dims in shared memory.
__device__ void norm_dims(const KvAppendArgs& args, const HeadTask& task, float* dims, int count) {
  const int lane = thread_x() % kWarpSize;
  const auto divisor = static_cast<float>(count);
  float mean = 0;
  if (args.qk_norm_kind == NormKind::layer) {
    float sum = 0;
    for (int dim = lane; dim < count; dim += kWarpSize) sum += dims[dim];
    mean = sum_of_warp(sum) / divisor;
  }
  float squares = 0;
  for (int dim = lane; dim < count; dim += kWarpSize) {
    squares = multiply_add(dims[dim] - mean, dims[dim] - mean, squares);
  }
  const float factor = 1.0f / sqrtf(sum_of_warp(squares) / divisor + args.qk_norm_epsilon);
  for (int dim = lane; dim < count; dim += kWarpSize) {
    const float gain = args.qk_norm_has_unit_offset ? task.norm[dim] + 1.0f : task.norm[dim];
    const float shift = task.norm_bias == nullptr ? 0.0f : task.norm_bias[dim];
    dims[dim] = multiply_add((dims[dim] - mean) * factor, gain, shift);
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

// A head in shared memory and what is yet to be done to it.
struct PreparedHead {
  const KvAppendArgs& args;
  const float* dims;
  const float* cos_sin;
  float scale;
  bool is_rotated;

  __device__ float dim(int index) const {
    return is_rotated ? rotated(args, cos_sin, dims, index) * scale : dims[index];
  }
  __device__ Couple couple(int index) const { return {dim(index), dim(index + 1)}; }
};

__device__ void write_query(const PreparedHead& head, int lane, Bf16* out) {
  for (int dim = 2 * lane; dim < head.args.head_dim; dim += 2 * kWarpSize) {
    const Couple couple = head.couple(dim);
    *reinterpret_cast<uint32_t*>(out + dim) = pack_bf16(couple.low, couple.high);
  }
}

__device__ uint32_t larger_magnitude(uint32_t largest, float value) {
  const uint32_t magnitude = bits_of_float(value) & 0x7fffffffu;
  return magnitude > largest ? magnitude : largest;
}

// The code of value / scale, where `factor` is 1 / scale; clamped, since the factor may have been rounded up.
__device__ uint32_t code_of(KvType type, float value, float factor) {
  const float scaled = value * factor;
  if (type == KvType::fp8) return e4m3_of_bits(bits_of_float(scaled));
  const float below = scaled < kLargestInt8 ? scaled : kLargestInt8;
  const float clamped = below > -kLargestInt8 ? below : -kLargestInt8;
  return static_cast<uint32_t>(static_cast<int32_t>(rintf(clamped))) & 0xff;
}

// Writes one row of K or V, and its scale.
__device__ void write_row(const PreparedHead& head, int lane, int slot, uint8_t* tile, uint8_t* scales) {
  const KvLayout layout = head.args.layout();
  float factor = 1;
  if (has_scales(layout.type)) {
    uint32_t largest_bits = 0;  // as an integer a NaN beats everything
    for (int dim = 2 * lane; dim < layout.head_dim; dim += 2 * kWarpSize) {
      const Couple couple = head.couple(dim);
      largest_bits = larger_magnitude(larger_magnitude(largest_bits, couple.low), couple.high);
    }
    const float largest = float_of_bits(largest_of_warp(largest_bits));
    const float limit = layout.type == KvType::int8 ? kLargestInt8 : kLargestE4m3;
    factor = largest > 0 ? limit / largest : 0.0f;
    if (lane == 0) reinterpret_cast<float*>(scales)[slot] = largest / limit;
  }
  for (int dim = 2 * lane; dim < layout.head_dim; dim += 2 * kWarpSize) {
    const Couple couple = head.couple(dim);
    uint8_t* to = tile + layout.offset_in_tile(slot, dim);
    if (has_scales(layout.type)) {
      const uint32_t codes =
          code_of(layout.type, couple.low, factor) | code_of(layout.type, couple.high, factor) << 8;
      *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(codes);
    } else {
      *reinterpret_cast<uint32_t*>(to) = pack_bf16(couple.low, couple.high);
    }
  }
}

// One warp per (row, head).
__device__ void append_head(const KvAppendArgs& args) {
  auto& storage = shared_storage<AppendStorage>();
  const int lane = thread_x() % kWarpSize;
  const int64_t row = block_x();
  const int index = block_y() * kWarps + thread_x() / kWarpSize;
  if (index >= args.num_heads()) return;
  const HeadTask task = task_of(args, row, index);
  const int64_t place = task.is_query ? 0 : args.slots[row];
  if (place < 0) return;

  float* dims = storage.heads[thread_x() / kWarpSize];
  for (int dim = lane; dim < args.head_dim; dim += kWarpSize) dims[dim] = task.from[dim];
  sync_warp();
  if (task.norm != nullptr) {
    norm_dims(args, task, dims + task.first_normed, args.head_dim - task.first_normed);
    sync_warp();
  }
  const PreparedHead head{args, dims, args.cos_sin + row * args.rotary_dim,
                          task.is_query ? args.q_scale : 1.0f, task.is_query || task.is_key};
  if (task.is_query) {
    write_query(head, lane, args.q_out + (row * args.num_q_heads + index) * args.head_dim);
    return;
  }
  const KvLayout layout = args.layout();
  uint8_t* start = args.pages + layout.head_offset(place / kPageTokens, task.head);
  write_row(head, lane, static_cast<int>(place % kPageTokens),
            start + (task.is_key ? 0 : layout.value_offset()),
            start + (task.is_key ? layout.key_scale_offset() : layout.value_scale_offset()));
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kWarps* autoglm::cuda::kWarpSize)
    kv_append(const __grid_constant__ autoglm::cuda::KvAppendArgs args) {
  autoglm::cuda::append_head(args);
}
