// Entries of attention_prefill.cuh for pages of int8.
#include "cuda/attention/attention_prefill.cuh"

using namespace autoglm::cuda;

#define AUTOGLM_HEAD_DIM(dim)                                                    \
  extern "C" __global__ void __launch_bounds__(prefill_threads(dim, false))      \
      attention_prefill_int8_##dim(const __grid_constant__ AttentionArgs args) { \
    attend_all<DenseShape<dim, KvType::int8>>(args);                             \
  }
#include "cuda/attention/head_dims.def"
