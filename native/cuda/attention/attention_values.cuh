// What follows the softmax in every attention kernel: weights times values, and the merging of splits.
//
// The value's dims come in strips of 16. A thread has four of each for both of its rows, as two "couples" of
// neighbours.
#pragma once

#include "cuda/attention/attention_tile.cuh"

namespace autoglm::cuda {

template <int kStrips>
struct Values {
  float sums[kStrips][2][4] = {};

  __device__ void shrink(const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < 8 * kStrips; ++i) sums[i / 8][i / 4 % 2][i % 4] *= factor[i % 4 / 2];
  }
};

// bf16: the sums are dims 0 .. 7 and 8 .. 15 of a strip. Codes of 8 bits: even and odd dims, since a
// transposed load moves two codes as one.
template <class Shape>
__device__ int dim_of_couple(int strip, int couple) {
  const int in_quad = lane_of_thread() % 4;
  return strip * kStripDims + (Shape::kHasScales ? in_quad * 4 + couple * 2 : couple * 8 + in_quad * 2);
}
template <class Shape>
__device__ Couple couple_of(const float (&sums)[2][4], int couple, int half) {
  if constexpr (Shape::kHasScales) return {sums[0][2 * half + couple], sums[1][2 * half + couple]};
  return {sums[couple][2 * half], sums[couple][2 * half + 1]};
}

// Moves the scales of the values into the weights that meet them.
template <class Shape>
__device__ void scale_weights(KvBlock<Shape>& block, float (&weights)[kKeyTiles][4]) {
  if constexpr (Shape::kHasScales) {
#pragma unroll
    for (int tile = 0; tile < kKeyTiles; ++tile) {
      const int key = tile * 8 + lane_of_thread() % 4 * 2;
      const auto scales = *reinterpret_cast<const Couple*>(block.value_scales() + key * sizeof(float));
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[tile][i] *= i % 2 == 0 ? scales.low : scales.high;
    }
  }
}

// The weights of keys 16 depth .. 16 depth + 15 as first operand.
__device__ inline void pack_weights(const float (&weights)[kKeyTiles][4], int depth, uint32_t (&rows)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float(&tile)[4] = weights[2 * depth + i / 2];
    rows[i] = pack_bf16(tile[i % 2 * 2], tile[i % 2 * 2 + 1]);
  }
}

// Adds what 16 keys from 16 depth on (bf16) or 32 (others) contribute to the strips first_strip + kStep * i.
template <class Shape, int kStep, int kStrips>
__device__ void multiply_values(const float (&weights)[kKeyTiles][4], const uint8_t* values, int depth,
                                int first_strip, Values<kStrips>& out) {
  const int matrix = lane_of_thread() / 8;
  const int row = lane_of_thread() % 8;
  constexpr bool kIsWhole = Shape::kStrips == kStep * kStrips;
  uint32_t rows[2][4];
  pack_weights(weights, depth, rows[0]);
  if constexpr (Shape::kHasScales) pack_weights(weights, depth + 1, rows[1]);
#pragma unroll
  for (int i = 0; i < kStrips; ++i) {
    const int strip = first_strip + kStep * i;
    if (!kIsWhole && strip >= Shape::kStrips) break;
    float(&sums)[2][4] = out.sums[i];
    uint32_t words[4];
    if constexpr (Shape::kHasScales) {
      load_matrices_transposed(
          words, matrix_row<Shape::kRowBytes>(values, depth * 16 + matrix * 8, row, strip * kChunkBytes));
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t lower_keys[2];
        uint32_t upper_keys[2];
        widen<Shape::kType>(words[2 * j], lower_keys);
        widen<Shape::kType>(words[2 * j + 1], upper_keys);
        multiply_bf16(sums[0], rows[j], lower_keys[0], upper_keys[0]);
        multiply_bf16(sums[1], rows[j], lower_keys[1], upper_keys[1]);
      }
    } else {
      const int byte = Shape::kFirstValueByte + strip * 2 * kChunkBytes + matrix / 2 * kChunkBytes;
      load_matrices_transposed(words,
                               matrix_row<Shape::kRowBytes>(values, depth * 16 + matrix % 2 * 8, row, byte));
      multiply_bf16(sums[0], rows[0], words[0], words[1]);
      multiply_bf16(sums[1], rows[0], words[2], words[3]);
    }
  }
}

// The same for all keys of a block.
template <class Shape, int kStep, int kStrips>
__device__ void multiply_block_values(const float (&weights)[kKeyTiles][4], KvBlock<Shape>& block,
                                      int first_strip, Values<kStrips>& out) {
  constexpr int kDepths = Shape::kHasScales ? 2 : 1;
#pragma unroll
  for (int depth = 0; depth < kKeyBlock / 16; depth += kDepths) {
    multiply_values<Shape, kStep>(weights, block.values(), depth, first_strip, out);
  }
}

// A row's sum over its four threads.
__device__ inline void finish_sums(SoftmaxState& state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    state.sum[half] += shuffle_xor(state.sum[half], 1);
    state.sum[half] += shuffle_xor(state.sum[half], 2);
  }
}

// How two partial results of a row become one: value = value * before + next_value * next.
struct MergeFactors {
  float before;
  float next;
};

// Takes the next split into (largest, sum) of those before it. Merging one split into nothing changes no bit.
__device__ inline MergeFactors merge_split(float next_largest, float next_sum, float& largest, float& sum) {
  const float both = larger(largest, next_largest);
  const MergeFactors factors{largest == both ? 1.0f : exp2_approx(largest - both),
                             next_largest == both ? 1.0f : exp2_approx(next_largest - both)};
  sum = multiply_add(next_sum, factors.next, sum * factors.before);
  largest = both;
  return factors;
}

__device__ inline void merge_states(SoftmaxState& state, SoftmaxState& total, MergeFactors (&factors)[2]) {
  finish_sums(state);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    factors[half] = merge_split(state.largest[half], state.sum[half], total.largest[half], total.sum[half]);
  }
  state = SoftmaxState{};
}

__device__ inline float merged_value(float value, float next_value, const MergeFactors& factors) {
  return multiply_add(next_value, factors.next, value * factors.before);
}

__device__ inline void store_couple(Bf16* out, const Couple& value, float sum) {
  const float factor = 1.0f / sum;
  *reinterpret_cast<uint32_t*>(out) = pack_bf16(value.low * factor, value.high * factor);
}

// Writes the thread's dims of its rows; strips as in multiply_values.
template <class Shape, int kStep, int kStrips>
__device__ void store_rows(const AttentionArgs& args, const ThreadRows& rows, const SoftmaxState& state,
                           int first_strip, const Values<kStrips>& values) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.end_key[half] == 0) continue;
#pragma unroll
    for (int i = 0; i < 2 * kStrips; ++i) {
      const int strip = first_strip + kStep * (i / 2);
      if (Shape::kStrips != kStep * kStrips && strip >= Shape::kStrips) break;
      store_couple(args.out + rows.head[half] * Shape::kValueDim + dim_of_couple<Shape>(strip, i % 2),
                   couple_of<Shape>(values.sums[i / 2], i % 2, half), state.sum[half]);
    }
  }
}

}  // namespace autoglm::cuda
