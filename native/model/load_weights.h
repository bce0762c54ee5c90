// Reads weights from files and packs them into one arena, or takes them as an earlier load has packed them,
// on as many threads as the pool has.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/load_control.h"
#include "model/packed_file.h"
#include "model/weight_source.h"

namespace autoglm {

// `packed` is used when its bytes are whole and come from these files, else the files are; the weights'
// origin says which and why. Throws what weight_layout.h and weight_file.h throw, invalid_model_file for
// bytes that lie outside their file or do not make up the tensor, out_of_memory. Nothing is left behind then.
std::unique_ptr<DecoderWeights> load_weights(const DecoderSpec& spec, const std::vector<ModelFile>& files,
                                             const WeightMap& map, Precision precision,
                                             const std::optional<PackedFile>& packed, ThreadPool& pool,
                                             LoadControl& control);

}  // namespace autoglm
