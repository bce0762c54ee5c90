// The weights of a decoder on a GPU, from those that the host has packed.
#pragma once

#include "base/thread_pool.h"
#include "cuda/driver/stream.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/gpu/device_weights.h"
#include "model/load_control.h"

namespace autoglm::gpu {

// `weights` may be freed afterwards. Throws unsupported_model, out_of_memory, what control.check throws, and
// errors of the device.
DeviceWeights load_device_weights(const DecoderSpec& spec, const DecoderWeights& weights,
                                  cuda::Stream& stream, ThreadPool& pool, LoadControl& control);

}  // namespace autoglm::gpu
