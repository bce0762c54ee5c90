// The weights of a decoder on a GPU, from those that the host has packed.
#pragma once

#include "base/thread_pool.h"
#include "cuda/driver/stream.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/gpu/device_weights.h"
#include "model/load_control.h"

namespace autoglm::gpu {

// Those of the layers from `first_layer` on with what comes behind them, and of what comes before the first
// layer where that is 0. `weights` may be freed afterwards. Throws unsupported_model, out_of_memory, what
// control.check throws, and errors of the device.
DeviceWeights load_device_weights(const DecoderSpec& spec, const DecoderWeights& weights, int64_t first_layer,
                                  cuda::Stream& stream, ThreadPool& pool, LoadControl& control);

}  // namespace autoglm::gpu
