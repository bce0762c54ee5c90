// Products with w8 weights and a scale for every 16 of k: quantized_product.cuh.
#include "cuda/quantized/quantized_product.cuh"

namespace autoglm::cuda {
namespace {

constexpr QuantizedForm kPlain = {.bits = 8, .scale_k = 16, .has_mins = false};
constexpr QuantizedForm kWithMins = {.bits = 8, .scale_k = 16, .has_mins = true};

}  // namespace
}  // namespace autoglm::cuda

AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_8, autoglm::cuda::kPlain, 0)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_16, autoglm::cuda::kPlain, 1)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_32, autoglm::cuda::kPlain, 2)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_64, autoglm::cuda::kPlain, 3)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_128, autoglm::cuda::kPlain, 4)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_mins_8, autoglm::cuda::kWithMins, 0)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_mins_16, autoglm::cuda::kWithMins, 1)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_mins_32, autoglm::cuda::kWithMins, 2)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_mins_64, autoglm::cuda::kWithMins, 3)
AUTOGLM_QUANTIZED_ENTRY(quantized_w8_16_mins_128, autoglm::cuda::kWithMins, 4)
