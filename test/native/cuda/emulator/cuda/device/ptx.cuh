// The device header on the host: the functions of native/cuda/device/ptx.cuh over the emulator. Kernel files
// find this one first and are compiled as they are.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "cuda/bf16.h"
#include "fragment_products.h"
#include "sanitizers.h"
#include "thread_block.h"

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

namespace autoglm::cuda {

inline constexpr int kWarpSize = emulator::kWarpSize;

inline int thread_x() { return static_cast<int>(emulator::position().thread); }
inline int block_x() { return static_cast<int>(emulator::position().block.x); }
inline int block_y() { return static_cast<int>(emulator::position().block.y); }
inline int block_z() { return static_cast<int>(emulator::position().block.z); }

inline void sync_threads() { emulator::wait_at_barrier(0, emulator::position().num_threads); }
inline void sync_some(int id, int num_threads) {
  emulator::wait_at_barrier(id, static_cast<unsigned>(num_threads));
}
inline void sync_warp() {
  int nothing = 0;
  emulator::run_in_warp("sync_warp", &nothing, [](void* const*) {});
}

template <typename T>
struct Shuffle {
  T value;
  int source;
  T result;
};
template <typename T>
T shuffle(T value, int lane) {
  Shuffle<T> mine{value, lane, {}};
  emulator::run_in_warp("shuffle", &mine, [](void* const* lanes) {
    for (int i = 0; i < kWarpSize; ++i) {
      auto& each = *static_cast<Shuffle<T>*>(lanes[i]);
      each.result = static_cast<Shuffle<T>*>(lanes[each.source % kWarpSize])->value;
    }
  });
  return mine.result;
}
template <typename T>
T shuffle_xor(T value, int lane_mask) {
  return shuffle(value, thread_x() % kWarpSize ^ lane_mask);
}
inline uint32_t ballot(bool vote) {
  uint32_t mine = vote ? 1 : 0;
  emulator::run_in_warp("ballot", &mine, [](void* const* lanes) {
    uint32_t votes = 0;
    for (int i = 0; i < kWarpSize; ++i) votes |= *static_cast<uint32_t*>(lanes[i]) << i;
    for (int i = 0; i < kWarpSize; ++i) *static_cast<uint32_t*>(lanes[i]) = votes;
  });
  return mine;
}
inline uint32_t largest_of_warp(uint32_t value) {
  emulator::run_in_warp("largest_of_warp", &value, [](void* const* lanes) {
    uint32_t largest = 0;
    for (int i = 0; i < kWarpSize; ++i) largest = std::max(largest, *static_cast<uint32_t*>(lanes[i]));
    for (int i = 0; i < kWarpSize; ++i) *static_cast<uint32_t*>(lanes[i]) = largest;
  });
  return value;
}
inline uint32_t smallest_of_warp(uint32_t value) {
  emulator::run_in_warp("smallest_of_warp", &value, [](void* const* lanes) {
    uint32_t smallest = ~0u;
    for (int i = 0; i < kWarpSize; ++i) smallest = std::min(smallest, *static_cast<uint32_t*>(lanes[i]));
    for (int i = 0; i < kWarpSize; ++i) *static_cast<uint32_t*>(lanes[i]) = smallest;
  });
  return value;
}

template <typename T>
T& shared_storage() {
  return *reinterpret_cast<T*>(emulator::shared_memory(sizeof(T)));
}

template <typename T>
T* global_pointer(T* pointer) {
  return pointer;
}

inline void copy_async(void* shared, const void* global, bool is_valid) {
  emulator::begin_copy(shared, global, 16, is_valid ? 16 : 0);
}
inline void commit_copies() { emulator::close_copy_group(); }
template <int kNumLeft>
void wait_for_copies() {
  emulator::finish_copies(kNumLeft);
}

inline void copy_async_word(void* shared, const void* global, bool is_valid) {
  emulator::begin_copy(shared, global, 4, is_valid ? 4 : 0);
}

inline uint64_t evict_first_policy() { return 1; }
inline void copy_async_with_policy(void* shared, const void* global, bool is_valid, uint64_t) {
  copy_async(shared, global, is_valid);
}
struct alignas(16) Words4 {
  uint32_t word[4];
};
inline Words4 load_words_with_policy(const void* global, uint64_t) {
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0) emulator::fail("a load of 16 bytes off its alignment");
  return *static_cast<const Words4*>(global);
}

struct MatrixLoad {
  const std::byte* row;
  uint32_t* out;
};
template <bool kIsTransposed>
void load_matrices_in_warp(uint32_t (&out)[4], const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulator::fail("a matrix row off its alignment");
  MatrixLoad mine{static_cast<const std::byte*>(row), out};
  emulator::run_in_warp(
      kIsTransposed ? "load_matrices_transposed" : "load_matrices", &mine, [](void* const* lanes) {
        uint16_t matrices[4][8][8];
        for (int i = 0; i < kWarpSize; ++i) {
          std::memcpy(matrices[i / 8][i % 8], static_cast<MatrixLoad*>(lanes[i])->row, 16);
        }
        for (int lane = 0; lane < kWarpSize; ++lane) {
          uint32_t* out = static_cast<MatrixLoad*>(lanes[lane])->out;
          const int line = lane / 4;
          const int place = lane % 4 * 2;
          for (int i = 0; i < 4; ++i) {
            const uint16_t low = kIsTransposed ? matrices[i][place][line] : matrices[i][line][place];
            const uint16_t high = kIsTransposed ? matrices[i][place + 1][line] : matrices[i][line][place + 1];
            out[i] = low | uint32_t{high} << 16;
          }
        }
      });
}
inline void load_matrices(uint32_t (&out)[4], const void* row) { load_matrices_in_warp<false>(out, row); }
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  load_matrices_in_warp<true>(out, row);
}

inline void multiply_bf16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply_in_warp("multiply_bf16", emulator::combine_bf16, sum, a, b0, b1);
}
inline void multiply_f16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply_in_warp("multiply_f16", emulator::combine_f16, sum, a, b0, b1);
}
inline void multiply_s8(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply_in_warp("multiply_s8", emulator::combine_s8, sum, a, b0, b1);
}

// The relative error that the instruction may have, so that no kernel relies on more.
inline float exp2_approx(float x) { return std::exp2(x) * (1.0f + 0x1p-22f); }
inline uint32_t round_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high) { return round_to_bf16(low) | round_to_bf16(high) << 16; }
inline uint32_t round_to_f16_saturated(float value) {
  if (std::isnan(value)) return 0x7fff;
  return autoglm::float_to_half(std::clamp(value, -65504.0f, 65504.0f));
}
inline uint32_t pack_f16_saturated(float low, float high) {
  return round_to_f16_saturated(low) | round_to_f16_saturated(high) << 16;
}
inline float float_of_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline uint32_t select_and_set(uint32_t word, uint32_t mask, uint32_t bits) { return (word & mask) | bits; }
// Products of bfloat16 are exact in double, and so is the sum unless exponents lie more than 36 apart.
inline uint32_t multiply_add_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  const auto half = [](uint32_t word, int shift) { return double{float_of_bits(word >> shift << 16)}; };
  const auto sum = [&](int shift) { return half(a, shift) * half(b, shift) + half(c, shift); };
  return pack_bf16(static_cast<float>(sum(0)), static_cast<float>(sum(16)));
}
inline float float_of_half(uint16_t bits) { return autoglm::half_to_float(bits); }
inline uint16_t half_of_float(float value) { return autoglm::float_to_half(value); }
inline uint32_t bits_of_float(float value) { return std::bit_cast<uint32_t>(value); }
inline int count_bits(uint32_t bits) { return std::popcount(bits); }

inline uint32_t take_ticket(uint32_t* counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_ACQ_REL); }
inline void set_bits_shared(uint32_t* word, uint32_t bits) {
  __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
}
inline void set_bits_global(uint32_t* word, uint32_t bits) {
  __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
}
inline void add_shared(uint32_t* word, uint32_t value) { __atomic_fetch_add(word, value, __ATOMIC_RELAXED); }
inline uint32_t take_shared(uint32_t* word, uint32_t value) {
  return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}
inline uint32_t take_global(uint32_t* word, uint32_t value) {
  return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

}  // namespace autoglm::cuda
