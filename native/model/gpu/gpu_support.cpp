#include "model/gpu/gpu_support.h"

#include <span>
#include <string>

#include "base/error.h"
#include "cuda/attention/attention.h"
#include "cuda/experts/route.h"

namespace autoglm::gpu {
namespace {

constexpr int64_t kColumnUnit = 8;          // bfloat16 that one load of a product takes
constexpr int64_t kMaxVocabSize = 1 << 20;  // of the sampling kernels
constexpr int64_t kMaxHeadDim = 256;        // of kv_append, but for latent pages

[[noreturn]] void refuse(const std::string& complaint) {
  throw Error(ErrorCode::unsupported_model, "the GPU has no kernel for " + complaint);
}

void check_columns(int64_t count, const std::string& what) {
  if (count % kColumnUnit != 0) {
    refuse(what + " of " + std::to_string(count) + "; expected a multiple of " + std::to_string(kColumnUnit));
  }
}

void check_attention(const AttentionSpec& attention, KvDtype kv_dtype) {
  const bool is_latent = attention.latent.has_value();
  const std::string dims =
      std::to_string(attention.head_dim) + (attention.head_dim == attention.value_dim
                                                ? std::string()
                                                : " with values of " + std::to_string(attention.value_dim));
  if (!cuda::has_attention(attention.head_dim, attention.value_dim, kv_type_of(kv_dtype), is_latent)) {
    refuse((is_latent ? "latent attention with vectors of " : "attention heads of ") + dims + " dims in " +
           std::string(info_of(kv_dtype).name) + " pages");
  }
  if (!is_latent && attention.head_dim > kMaxHeadDim) refuse("attention heads of " + dims + " dims");
  check_columns(attention.attended_cols(), "an attention output");
  if (!is_latent) return;
  const LatentSpec& latent = *attention.latent;
  check_columns(latent.query_rank.value_or(0), "a query rank");
  check_columns(latent.nope_dim, "dims without rotation");
  check_columns(latent.rope_dim, "rotated dims");
  check_columns(latent.rank, "a latent rank");
  check_columns(latent.output_dim, "a head's output");
}

void check_moe(const MoeSpec& moe) {
  check_columns(moe.intermediate_size, "an expert's intermediate size");
  check_columns(moe.shared_intermediate_size, "a shared expert's intermediate size");
  if (!cuda::has_route(moe.num_experts, moe.router.num_groups, moe.num_experts_per_token)) {
    refuse(std::to_string(moe.num_experts) + " experts in " + std::to_string(moe.router.num_groups) +
           " groups, " + std::to_string(moe.num_experts_per_token) + " of them chosen");
  }
}

}  // namespace

void check_gpu_spec(const DecoderSpec& spec, Precision precision, KvDtype kv_dtype, int64_t first_layer) {
  if (precision == Precision::exact) refuse("precision 'exact': its activations are bfloat16");
  if (kv_dtype == KvDtype::f32) refuse("KV pages of f32");
  check_columns(spec.hidden_size, "a hidden size");
  if (spec.vocab_size > kMaxVocabSize) refuse("a vocabulary of " + std::to_string(spec.vocab_size));
  for (const LayerSpec& layer : std::span(spec.layers).subspan(static_cast<size_t>(first_layer))) {
    check_attention(layer.attention, kv_dtype);
    if (layer.moe) {
      check_moe(*layer.moe);
    } else {
      check_columns(layer.mlp.intermediate_size, "an intermediate size");
    }
  }
}

cuda::KvType kv_type_of(KvDtype dtype) {
  switch (dtype) {
    case KvDtype::int8:
      return cuda::KvType::int8;
    case KvDtype::fp8:
      return cuda::KvType::fp8;
    case KvDtype::bf16:
    case KvDtype::f32:
      break;
  }
  return cuda::KvType::bf16;
}

}  // namespace autoglm::gpu
