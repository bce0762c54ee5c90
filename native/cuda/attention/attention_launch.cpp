// Which entry point computes an attention, from head_dims.def alone.
#include <algorithm>
#include <iterator>

#include "cuda/attention/attention.h"
#include "cuda/attention/attention_storage.h"

namespace autoglm::cuda {
namespace {

struct Entry {
  const char* kernel;
  unsigned num_threads;
  size_t shared_bytes;
};

struct Instance {
  int head_dim;
  int value_dim;
  KvType kv_type;
  bool is_latent;
  Entry decode;
  Entry prefill;
};

template <class Shape>
constexpr Instance instance_of(const char* decode, const char* prefill) {
  using Decode = typename StorageOf<Shape>::Decode;
  using Prefill = typename StorageOf<Shape>::Prefill;
  return {.head_dim = Shape::kKeyDim,
          .value_dim = Shape::kValueDim,
          .kv_type = Shape::kType,
          .is_latent = Shape::kIsLatent,
          .decode = {decode, Decode::kThreads, sizeof(Decode)},
          .prefill = {prefill, Prefill::kThreads, sizeof(Prefill)}};
}

constexpr Instance kInstances[] = {
#define AUTOGLM_HEAD_DIM(dim)                                                                                \
  instance_of<DenseShape<dim, KvType::bf16>>("attention_decode_bf16_" #dim, "attention_prefill_bf16_" #dim), \
      instance_of<DenseShape<dim, KvType::int8>>("attention_decode_int8_" #dim,                              \
                                                 "attention_prefill_int8_" #dim),                            \
      instance_of<DenseShape<dim, KvType::fp8>>("attention_decode_fp8_" #dim,                                \
                                                "attention_prefill_fp8_" #dim),
#define AUTOGLM_LATENT(dim, value_dim)                                                     \
  instance_of<LatentShape<dim, value_dim>>("attention_decode_latent_" #dim "_" #value_dim, \
                                           "attention_prefill_latent_" #dim "_" #value_dim),
#include "cuda/attention/head_dims.def"
#undef AUTOGLM_HEAD_DIM
#undef AUTOGLM_LATENT
};

const Instance* find_instance(int64_t head_dim, int64_t value_dim, KvType kv_type, bool is_latent) {
  const Instance* found = std::ranges::find_if(kInstances, [=](const Instance& each) {
    return each.head_dim == head_dim && each.value_dim == value_dim && each.kv_type == kv_type &&
           each.is_latent == is_latent;
  });
  return found == std::end(kInstances) ? nullptr : found;
}

LaunchShape launch_of(const AttentionArgs& args, Entry Instance::* kind) {
  if (args.num_work == 0) return {};
  const Entry& entry = find_instance(args.head_dim, args.value_dim, args.kv_type, args.is_latent)->*kind;
  return {.kernel = entry.kernel,
          .grid_x = static_cast<unsigned>(args.num_work),
          .grid_y = static_cast<unsigned>(args.num_kv_heads),
          .num_threads = entry.num_threads,
          .shared_bytes = entry.shared_bytes};
}

}  // namespace

bool has_attention(int64_t head_dim, int64_t value_dim, KvType kv_type, bool is_latent) {
  return find_instance(head_dim, value_dim, kv_type, is_latent) != nullptr;
}

LaunchShape decode_launch(const AttentionArgs& args) { return launch_of(args, &Instance::decode); }
LaunchShape prefill_launch(const AttentionArgs& args) { return launch_of(args, &Instance::prefill); }

}  // namespace autoglm::cuda
