// Everything a load needs, already converted from JavaScript and checked: NativeLoadRequest in
// lib/native/addon.ts.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/decoder_spec.h"
#include "model/gpu/device_choice.h"
#include "model/packed_file.h"
#include "model/weight_source.h"
#include "runtime/step_records.h"

namespace autoglm {

struct LoadRequest {
  DecoderSpec spec;
  std::vector<ModelFile> files;
  WeightMap weights;
  std::optional<PackedFile> packed;  // from an earlier load of this model
  bool is_exact = false;             // float32 activations, weights and KV
  KvDtype kv_dtype = KvDtype::bf16;  // fp8 with a device only, else invalid_parameter
  // The GPUs that compute the model; without them the processor does. A binary without CUDA code refuses it
  // with invalid_parameter. What no kernel executes (is_exact, KV of f32, other head dims) is
  // unsupported_model.
  std::optional<DeviceChoice> device;
  int64_t num_pages = 0;
  int64_t max_rows = 0;
  int64_t max_step_tokens = 0;
  // Shared with JavaScript, which keeps them alive as long as the model.
  std::array<std::span<const int32_t>, abi::Limits::queueDepth> plans;
  std::array<std::span<int32_t>, abi::Limits::queueDepth> results;
  const int32_t* cancel = nullptr;  // the load stops soon after this word becomes non-zero
};

}  // namespace autoglm
