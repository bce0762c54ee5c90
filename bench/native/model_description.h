// Reads what bench/cpu/describe-model.mjs writes: a model of equal, plain layers as words separated by
// blanks.
#pragma once

#include <string>

#include "runtime/load_request.h"

namespace autoglm {

// The spec, the file and the weights of a load; the rest is the caller's. Throws std::runtime_error for a
// description that does not parse.
LoadRequest read_description(const std::string& path, const std::string& model_file);

}  // namespace autoglm
