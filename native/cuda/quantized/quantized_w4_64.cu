// Products with w4 weights and a scale for every 64 of k, or 128: quantized_product.cuh.
#include "cuda/quantized/quantized_product.cuh"

namespace autoglm::cuda {
namespace {

constexpr QuantizedForm kPlain = {.bits = 4, .scale_k = 64, .has_mins = false};
constexpr QuantizedForm kWithMins = {.bits = 4, .scale_k = 64, .has_mins = true};

}  // namespace
}  // namespace autoglm::cuda

AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_8, autoglm::cuda::kPlain, 0)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_16, autoglm::cuda::kPlain, 1)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_32, autoglm::cuda::kPlain, 2)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_64, autoglm::cuda::kPlain, 3)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_128, autoglm::cuda::kPlain, 4)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_mins_8, autoglm::cuda::kWithMins, 0)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_mins_16, autoglm::cuda::kWithMins, 1)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_mins_32, autoglm::cuda::kWithMins, 2)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_mins_64, autoglm::cuda::kWithMins, 3)
AUTOGLM_QUANTIZED_ENTRY(quantized_w4_64_mins_128, autoglm::cuda::kWithMins, 4)
