// What the kernels of a GPU execute, by a model's settings alone.
#pragma once

#include "base/formats.h"
#include "cuda/attention/page_layout.h"
#include "model/decoder_spec.h"

namespace autoglm::gpu {

// Throws unsupported_model naming the first setting that no kernel executes, of the layers from `first_layer`
// on and of the whole; for a spec that has passed check_decoder_spec.
void check_gpu_spec(const DecoderSpec& spec, Precision precision, KvDtype kv_dtype, int64_t first_layer);

// For a dtype that has passed.
cuda::KvType kv_type_of(KvDtype dtype);

}  // namespace autoglm::gpu
