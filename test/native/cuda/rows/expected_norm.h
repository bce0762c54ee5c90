// Norms in float64.
#pragma once

#include <cmath>
#include <vector>

#include "base/formats.h"

namespace autoglm::test {

inline std::vector<double> normed(const float* in, int64_t count, NormKind kind, double epsilon) {
  double mean = 0;
  for (int64_t i = 0; i < count; ++i) mean += kind == NormKind::layer ? double{in[i]} / count : 0;
  double variance = 0;
  for (int64_t i = 0; i < count; ++i) variance += (in[i] - mean) * (in[i] - mean) / count;
  std::vector<double> out;
  for (int64_t i = 0; i < count; ++i) out.push_back((in[i] - mean) / std::sqrt(variance + epsilon));
  return out;
}

}  // namespace autoglm::test
