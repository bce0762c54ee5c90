// Entries of the attention kernels for pages of latents: decode and prefill.
#include "cuda/attention/attention_decode.cuh"
#include "cuda/attention/attention_prefill.cuh"

using namespace autoglm::cuda;

#define AUTOGLM_LATENT(dim, value_dim)                                                           \
  extern "C" __global__ void __launch_bounds__(kDecodeThreads)                                   \
      attention_decode_latent_##dim##_##value_dim(const __grid_constant__ AttentionArgs args) {  \
    attend_split<LatentShape<dim, value_dim>>(args);                                             \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(prefill_threads(dim, true))                       \
      attention_prefill_latent_##dim##_##value_dim(const __grid_constant__ AttentionArgs args) { \
    attend_all<LatentShape<dim, value_dim>>(args);                                               \
  }
#include "cuda/attention/head_dims.def"
