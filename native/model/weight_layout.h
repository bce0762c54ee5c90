// Matches a DecoderSpec with its weight map: which stored tensors become which packed matrices, and how big
// they are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/formats.h"
#include "model/decoder_spec.h"
#include "model/decoder_weights.h"
#include "model/weight_source.h"

namespace autoglm {

// One stored tensor under the role it was asked for.
struct NamedSource {
  std::string role;
  const WeightSource* source = nullptr;
  int64_t num_rows = 0;  // of the packed matrix, or elements of the vector
};

struct MatrixJob {
  PackedMatrix* destination = nullptr;
  std::vector<NamedSource> sources;  // stacked by rows, all of one packed format
  PackedFormat format;
  Precision precision = Precision::fast;
  int64_t n = 0;
  int64_t k = 0;
};

struct VectorJob {
  const float** destination = nullptr;
  std::vector<NamedSource> sources;  // one after the other
  int64_t length = 0;
};

struct WeightLayout {
  std::unique_ptr<DecoderWeights> weights;  // the jobs point into it; its matrices have no memory yet
  std::vector<MatrixJob> matrices;
  std::vector<VectorJob> vectors;
};

// Throws invalid_model_file for a role that is missing or whose shape contradicts the spec, and
// invalid_parameter for roles that the spec does not use. `map` must outlive the layout.
WeightLayout lay_out_weights(const DecoderSpec& spec, const WeightMap& map, Precision precision);

}  // namespace autoglm
