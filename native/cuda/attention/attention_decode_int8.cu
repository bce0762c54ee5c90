// Entries of attention_decode.cuh for pages of int8.
#include "cuda/attention/attention_decode.cuh"

using namespace autoglm::cuda;

#define AUTOGLM_HEAD_DIM(dim)                                                                    \
  extern "C" __global__ void __launch_bounds__(kDecodeThreads, decode_blocks(dim, KvType::int8)) \
      attention_decode_int8_##dim(const __grid_constant__ AttentionArgs args) {                  \
    attend_split<DenseShape<dim, KvType::int8>>(args);                                           \
  }
#include "cuda/attention/head_dims.def"
