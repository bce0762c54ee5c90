// Reads weights from files and packs them into one arena, on as many threads as the pool has.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/weight_source.h"

namespace autoglm {

// What the outside sees of a load in progress, and how it interferes.
struct LoadControl {
  std::atomic<int64_t> loaded_bytes{0};
  std::atomic<int64_t> total_bytes{0};
  // Called between pieces, from any of the pool's threads: throws to stop the load.
  std::function<void()> check;
};

// Throws what weight_layout.h and weight_file.h throw, invalid_model_file for bytes that lie outside their
// file or do not make up the tensor, out_of_memory. Nothing is left behind then.
std::unique_ptr<DecoderWeights> load_weights(const DecoderSpec& spec, const std::vector<ModelFile>& files,
                                             const WeightMap& map, Precision precision, ThreadPool& pool,
                                             LoadControl& control);

}  // namespace autoglm
