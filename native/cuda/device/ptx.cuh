// What kernels use of the machine, one instruction per function, and nothing else: test/native/cuda/emulator
// has a header of the same name that does the same on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/bf16.h"

namespace autoglm::cuda {

inline constexpr int kWarpSize = 32;

__device__ inline int thread_x() { return static_cast<int>(threadIdx.x); }
__device__ inline int block_x() { return static_cast<int>(blockIdx.x); }
__device__ inline int block_y() { return static_cast<int>(blockIdx.y); }
__device__ inline int block_z() { return static_cast<int>(blockIdx.z); }

__device__ inline void sync_threads() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(); }
// Waits for `num_threads` threads, a multiple of 32; ids 1..15.
__device__ inline void sync_some(int id, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

template <typename T>
__device__ T shuffle_xor(T value, int lane_mask) {
  return __shfl_xor_sync(0xffffffffu, value, lane_mask);
}
template <typename T>
__device__ T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
__device__ inline uint32_t ballot(bool vote) { return __ballot_sync(0xffffffffu, vote); }
__device__ inline uint32_t largest_of_warp(uint32_t value) { return __reduce_max_sync(0xffffffffu, value); }
__device__ inline uint32_t smallest_of_warp(uint32_t value) { return __reduce_min_sync(0xffffffffu, value); }

// The block's shared memory as one T; the launcher asks for dynamic memory where it exceeds the static limit.
inline constexpr size_t kMaxStaticShared = 48 << 10;
template <typename T>
__device__ T& shared_storage() {
  if constexpr (sizeof(T) <= kMaxStaticShared) {
    __shared__ T storage;
    return storage;
  } else {
    extern __shared__ __align__(128) unsigned char dynamic[];
    return *reinterpret_cast<T*>(dynamic);
  }
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Says that `pointer` is of global memory. Where one of several stores is chosen at run time, compilers for
// sm_100 and later otherwise merge them into one that asks for the address space each time.
template <typename T>
__device__ T* global_pointer(T* pointer) {
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}

// Begins to copy 16 bytes past L1; without `is_valid` they become zeros and `global` is not read.
__device__ inline void copy_async(void* shared, const void* global, bool is_valid) {
  const int valid = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kNumLeft` of this thread's groups are under way.
template <int kNumLeft>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNumLeft) : "memory");
}

// The same for 4 bytes, through L1.
__device__ inline void copy_async_word(void* shared, const void* global, bool is_valid) {
  const int valid = is_valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid)
               : "memory");
}

// For data that is read once: the first to leave the L2 cache.
__device__ inline uint64_t evict_first_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// As copy_async, with a policy of the L2 cache.
__device__ inline void copy_async_with_policy(void* shared, const void* global, bool is_valid,
                                              uint64_t policy) {
  const int valid = is_valid ? 16 : 0;
  const uint32_t target = shared_address(shared);
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(target), "l"(global),
               "r"(valid), "l"(policy)
               : "memory");
}
struct alignas(16) Words4 {
  uint32_t word[4];
};
// 16 bytes that nobody writes while the kernel runs, past L1.
__device__ inline Words4 load_words_with_policy(const void* global, uint64_t policy) {
  Words4 out;
  asm("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
      : "=r"(out.word[0]), "=r"(out.word[1]), "=r"(out.word[2]), "=r"(out.word[3])
      : "l"(global), "l"(policy));
  return out;
}

// Four 8 x 8 matrices of 16 bits; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

// sum += a * b; m16n8k16, fragments as in fragments.h.
__device__ inline void multiply_bf16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void multiply_f16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// m16n8k32 of signed bytes.
__device__ inline void multiply_s8(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x, relative error below 2^-22; 0 for -infinity.
__device__ inline float exp2_approx(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
// Two floats rounded to nearest even, `low` in the low half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
// Two floats rounded to halves, to nearest even, `low` in the low half; beyond +-65504, infinities too, they
// become that. NaN stays NaN.
__device__ inline uint32_t pack_f16_saturated(float low, float high) {
  uint32_t out;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
__device__ inline float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// word & mask | bits, which takes two instructions if the compiler sees two constants.
__device__ inline uint32_t select_and_set(uint32_t word, uint32_t mask, uint32_t bits) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(word), "r"(mask), "r"(bits));
  return out;
}
// a * b + c of both bfloat16 of a word, rounded once.
__device__ inline uint32_t multiply_add_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t out;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}
__device__ inline float float_of_half(uint16_t bits) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
  return out;
}
// Rounded to nearest even.
__device__ inline uint16_t half_of_float(float value) {
  uint16_t out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(value));
  return out;
}
__device__ inline uint32_t bits_of_float(float value) { return __float_as_uint(value); }
__device__ inline int count_bits(uint32_t bits) { return __popc(bits); }

// Adds 1 and returns what was there; what this thread wrote before is seen by who reads the sum.
__device__ inline uint32_t take_ticket(uint32_t* counter) {
  uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}
// Sets bits of a word in shared memory, whatever other threads of the block set at the same time.
__device__ inline void set_bits_shared(uint32_t* word, uint32_t bits) {
  asm volatile("red.relaxed.cta.shared.or.b32 [%0], %1;" ::"r"(shared_address(word)), "r"(bits) : "memory");
}
// The same for bits and for sums of words in global and in shared memory; nothing else is ordered by it.
__device__ inline void set_bits_global(uint32_t* word, uint32_t bits) {
  asm volatile("red.relaxed.gpu.global.or.b32 [%0], %1;" ::"l"(word), "r"(bits) : "memory");
}
__device__ inline void add_shared(uint32_t* word, uint32_t value) {
  asm volatile("red.relaxed.cta.shared.add.u32 [%0], %1;" ::"r"(shared_address(word)), "r"(value) : "memory");
}
// Returns what was there.
__device__ inline uint32_t take_shared(uint32_t* word, uint32_t value) {
  uint32_t before;
  asm volatile("atom.relaxed.cta.shared.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "r"(shared_address(word)), "r"(value)
               : "memory");
  return before;
}
__device__ inline uint32_t take_global(uint32_t* word, uint32_t value) {
  uint32_t before;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(word), "r"(value)
               : "memory");
  return before;
}

}  // namespace autoglm::cuda
