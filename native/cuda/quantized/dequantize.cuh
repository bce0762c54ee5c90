// Codes as exact bfloat16 values, in the order of weight_order.h, without a conversion instruction.
//
// A bfloat16 has 7 bits of mantissa: under the exponent of 128 they count in ones. A nibble q set there reads
// as 128 + q, and one addition takes 128 or 136 away. Of an int8 the low 7 bits are set there; its sign bit,
// worth -128, is the lowest bit of an exponent, so that 0xc300 with it reads as -128 or -256.
// Source: Kim et al. 2022, "Who Says Elephants Can't Run" (arXiv 2211.10017) for f16; here for bfloat16.
#pragma once

#include "cuda/device/ptx.cuh"
#include "cuda/quantized/quantized_storage.h"

namespace autoglm::cuda {

// thread_x, whose range the compiler knows: divisions by powers of two need no care for negative values then.
__device__ inline int thread_of_block() { return thread_x() & (kQuantizedThreads - 1); }

inline constexpr int kSlabSteps = kSlabK / kFragmentK;
inline constexpr uint32_t kOnes = 0x3f803f80;        // 1, twice
inline constexpr uint32_t kPlus128 = 0x43004300;     // 128
inline constexpr uint32_t kMinus128 = 0xc300c300;    // -128
inline constexpr uint32_t kMinus136 = 0xc308c308;    // -136
inline constexpr uint32_t kLowNibbles = 0x000f000f;  // of both halves
inline constexpr uint32_t kLowSevenBits = 0x007f007f;
inline constexpr uint32_t kSignBits = 0x00800080;

// The values 0..15 of two nibbles, minus 8 without mins.
template <bool kHasMins>
__device__ uint32_t pair_of_nibbles(uint32_t word, int reg) {
  const uint32_t raised = select_and_set(word >> (4 * reg), kLowNibbles, kPlus128);
  return multiply_add_bf16x2(raised, kOnes, kHasMins ? kMinus128 : kMinus136);
}
// The values of bytes 0 and 2, or of 1 and 3.
__device__ inline uint32_t pair_of_bytes(uint32_t word, int is_odd) {
  const uint32_t bytes = word >> (8 * is_odd);
  return multiply_add_bf16x2(select_and_set(bytes, kLowSevenBits, kPlus128), kOnes,
                             select_and_set(bytes, kSignBits, kMinus128));
}

// What a warp has in registers at a time: 32 k, or as many as one scale is for.
template <QuantizedForm kForm>
inline constexpr int kSpanK = kForm.scale_k > 32 ? kForm.scale_k : 32;
template <QuantizedForm kForm>
inline constexpr int kSpanSteps = kSpanK<kForm> / kFragmentK;
template <QuantizedForm kForm>
inline constexpr int kSpanScales = kSpanK<kForm> / kForm.scale_k;

// First operands of one tile for the steps of a span.
template <QuantizedForm kForm>
__device__ void load_codes(const uint8_t* codes, int tile, int span, int lane,
                           uint32_t (&out)[kSpanSteps<kForm>][4]) {
  constexpr int kPieces = kForm.bits / 4;  // of a tile, for one lane
  constexpr int kPieceSteps = kSlabSteps / kPieces;
  const int piece = tile * kPieces + span * kSpanSteps<kForm> / kPieceSteps;
  const Words4 words = *reinterpret_cast<const Words4*>(codes + (piece * kWarpSize + lane) * kPieceBytes);
#pragma unroll
  for (int i = 0; i < kSpanSteps<kForm> * 4; ++i) {
    if constexpr (kForm.bits == 4) {
      const uint32_t word = words.word[span * kSpanSteps<kForm> % kPieceSteps + i / 4];
      out[i / 4][i % 4] = pair_of_nibbles<kForm.has_mins>(word, i % 4);
    } else {
      out[i / 4][i % 4] = pair_of_bytes(words.word[i / 2], i % 2);
    }
  }
}

struct alignas(8) Halves4 {
  uint16_t value[kLaneRows];
};

// Scales, or mins, of a lane's rows in a span. A group longer than scale_k has one for all.
template <QuantizedForm kForm>
__device__ void load_scales(const uint16_t* scales, int span, int lane, int group,
                            float (&out)[kSpanScales<kForm>][kLaneRows]) {
  constexpr int kCount = kSlabK / kForm.scale_k;
  const bool is_shared = kCount > 1 && group > kForm.scale_k;
#pragma unroll
  for (int i = 0; i < kSpanScales<kForm>; ++i) {
    const int place = is_shared ? lane / 4 : lane / 4 * kCount + span * kSpanScales<kForm> + i;
    const Halves4 halves = reinterpret_cast<const Halves4*>(scales)[place];
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) out[i][row] = float_of_half(halves.value[row]);
  }
}

}  // namespace autoglm::cuda
