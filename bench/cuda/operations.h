// The benchmarks, by the bars of the plan. Each checks outputs against float64 before it takes times, and
// that the bits are still the same afterwards.
#pragma once

#include <functional>
#include <string>

#include "cublaslt.h"
#include "lab.h"
#include "models/llama_cpp.h"
#include "results.h"

namespace autoglm::bench {

// What the card does at most, measured in the same run.
struct Ceilings {
  double copy_rate = 0;     // bytes per second, read and written
  double product_rate = 0;  // flops per second of cuBLASLt at 8192^3; 0 where it is not there
};

void measure_decode_attention(Lab& lab, const Ceilings& ceilings, Results& results);              // G1, G2
void measure_prefill_attention(Lab& lab, const Ceilings& ceilings, Results& results);             // G3
void measure_products(Lab& lab, const CublasLt& cublaslt, Ceilings& ceilings, Results& results);  // G4
void measure_quantized_products(Lab& lab, const Ceilings& ceilings, Results& results);            // G5, G6
void measure_sampling(Lab& lab, Results& results);                                                // G10
// Whether a bar is asked for: models are loaded for several bars at once.
using WantedBars = std::function<bool(const std::string& bar)>;
void measure_models(Lab& lab, const Ceilings& ceilings, const LlamaCpp& peer, const WantedBars& wants,
                    Results& results);  // G8, G9, G11

// Tolerances of the tests: relative L2 distance of outputs in bf16.
inline constexpr double kBf16Tolerance = 1e-2;

// |found - expected| / |expected| of values that come one by one; not finite where one of them is not.
class Distance {
 public:
  void add(double found, double expected) {
    difference_ += (found - expected) * (found - expected);
    length_ += expected * expected;
  }
  double value() const;

 private:
  double difference_ = 0;
  double length_ = 0;
};

// The first 32 MiB of an output, to be compared later.
std::vector<std::byte> snapshot(Lab& lab, const cuda::DeviceMemory& memory);

}  // namespace autoglm::bench
