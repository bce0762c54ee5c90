// The device header on the host: the functions of native/cuda/device/ptx.cuh over the emulator. Kernel files
// find this one first and are compiled as they are.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/bf16.h"
#include "fragment_lanes.h"
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

template <typename T>
T& shared_storage() {
  return *reinterpret_cast<T*>(emulator::shared_memory(sizeof(T)));
}

inline void copy_async(void* shared, const void* global, bool is_valid) {
  emulator::begin_copy(shared, global, 16, is_valid ? 16 : 0);
}
inline void commit_copies() { emulator::close_copy_group(); }
template <int kNumLeft>
void wait_for_copies() {
  emulator::finish_copies(kNumLeft);
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
        for (int lane = 0; lane < kWarpSize; ++lane) {
          for (int i = 0; i < 8; ++i) {
            const int matrix = i / 2;
            const int line = lane / 4;
            const int place = lane % 4 * 2 + i % 2;
            const int from = kIsTransposed ? place : line;
            const int column = kIsTransposed ? line : place;
            const auto* source = static_cast<MatrixLoad*>(lanes[matrix * 8 + from])->row;
            auto* target = static_cast<MatrixLoad*>(lanes[lane])->out + matrix;
            std::memcpy(reinterpret_cast<std::byte*>(target) + i % 2 * 2, source + column * 2, 2);
          }
        }
      });
}
inline void load_matrices(uint32_t (&out)[4], const void* row) { load_matrices_in_warp<false>(out, row); }
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  load_matrices_in_warp<true>(out, row);
}

inline void multiply_bf16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply_in_warp<emulator::Bf16Product>(sum, a, b0, b1);
}
inline void multiply_f16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply_in_warp<emulator::F16Product>(sum, a, b0, b1);
}
inline void multiply_s8(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply_in_warp<emulator::S8Product>(sum, a, b0, b1);
}

// The relative error that the instruction may have, so that no kernel relies on more.
inline float exp2_approx(float x) { return std::exp2(x) * (1.0f + 0x1p-22f); }
inline uint32_t round_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high) { return round_to_bf16(low) | round_to_bf16(high) << 16; }
inline float float_of_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }

inline uint32_t take_ticket(uint32_t* counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_ACQ_REL); }

}  // namespace autoglm::cuda
