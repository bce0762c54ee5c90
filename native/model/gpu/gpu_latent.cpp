// Both sides of latent attention on a GPU: as model/latent_attention.h.
#include "cuda/heads/copy_heads.h"
#include "cuda/heads/heads_product.h"
#include "cuda/rows/norm.h"
#include "model/gpu/gpu_decoder.h"

namespace autoglm::gpu {

// Queries to scratch_.qkv, [rows, heads * (rope + rank)], and keys to scratch_.latent_kv, [rows, rope +
// rank].
void GpuDecoder::project_latent(size_t index) {
  const AttentionSpec& attention = spec_.layers[index].attention;
  const LatentSpec& latent = *attention.latent;
  const DeviceLatent& weights = weights_.layers[index].latent;
  const int64_t num_heads = attention.num_q_heads;
  const int64_t head_cols = latent.nope_dim + latent.rope_dim;
  const int64_t query_cols = weights.query.matrix.n;
  multiply_stacked({weights.query}, scratch_.input, scratch_.latent_query, query_cols);
  multiply_stacked({weights.kv}, scratch_.input, scratch_.latent_kv, weights.kv.matrix.n);

  const float* heads = scratch_.latent_query;
  if (latent.query_rank) {
    const cuda::NormArgs norm{.in = scratch_.latent_query,
                              .weight = weights.query_norm.weight,
                              .bias = weights.query_norm.bias,
                              .out_bf16 = scratch_.normed_query,
                              .num_rows = step_->num_rows,
                              .num_cols = static_cast<int32_t>(query_cols),
                              .epsilon = latent.norm.epsilon,
                              .kind = latent.norm.kind,
                              .has_unit_offset = latent.norm.has_unit_offset};
    launch(cuda::norm_launch(norm), norm);
    multiply_stacked({weights.query_b}, scratch_.normed_query, scratch_.query_heads, num_heads * head_cols);
    heads = scratch_.query_heads;
  }
  const int64_t q_head_cols = latent.rope_dim + latent.rank;
  const cuda::CopyHeadsArgs copy{.in = heads + latent.nope_dim,
                                 .out = scratch_.qkv,
                                 .in_row_stride = num_heads * head_cols,
                                 .in_head_stride = head_cols,
                                 .out_row_stride = num_heads * q_head_cols,
                                 .out_head_stride = q_head_cols,
                                 .num_rows = step_->num_rows,
                                 .num_heads = static_cast<int32_t>(num_heads),
                                 .count = static_cast<int32_t>(latent.rope_dim)};
  launch(cuda::copy_heads_launch(copy), copy);
  const cuda::HeadsProductArgs product{.w = static_cast<const cuda::Bf16*>(weights.k_b.weights),
                                       .in = heads,
                                       .out = scratch_.qkv + latent.rope_dim,
                                       .in_row_stride = num_heads * head_cols,
                                       .in_head_stride = head_cols,
                                       .out_row_stride = num_heads * q_head_cols,
                                       .out_head_stride = q_head_cols,
                                       .num_rows = step_->num_rows,
                                       .num_heads = static_cast<int32_t>(num_heads),
                                       .n = static_cast<int32_t>(latent.rank),
                                       .k = static_cast<int32_t>(latent.nope_dim)};
  launch(cuda::heads_product_launch(product), product);
}

// Attended latents to the heads' outputs in scratch_.expanded.
void GpuDecoder::expand_latent(size_t index) {
  const AttentionSpec& attention = spec_.layers[index].attention;
  const LatentSpec& latent = *attention.latent;
  const cuda::HeadsProductArgs product{
      .w = static_cast<const cuda::Bf16*>(weights_.layers[index].latent.v_b.weights),
      .in_bf16 = scratch_.attended,
      .out_bf16 = scratch_.expanded,
      .in_row_stride = attention.num_q_heads * latent.rank,
      .in_head_stride = latent.rank,
      .out_row_stride = attention.num_q_heads * latent.output_dim,
      .out_head_stride = latent.output_dim,
      .num_rows = step_->num_rows,
      .num_heads = static_cast<int32_t>(attention.num_q_heads),
      .n = static_cast<int32_t>(latent.output_dim),
      .k = static_cast<int32_t>(latent.rank)};
  launch(cuda::heads_product_launch(product), product);
}

}  // namespace autoglm::gpu
