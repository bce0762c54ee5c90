// The order of (row, expert) pairs within the rows of one block. A row chooses an expert once or not at all,
// so that an expert's rows are a set: bits, set in any order, that give counts and ranks without a sort.
#pragma once

#include "cuda/device/ptx.cuh"
#include "cuda/experts/expert_pairs.h"
#include "cuda/experts/experts_storage.h"

namespace autoglm::cuda {

// The rows of a block.
struct PairChunk {
  int first_row;
  int num_rows;
  int num_valid;
};

__device__ inline int clamped(int value, int limit) {
  return value < 0 ? 0 : (value < limit ? value : limit);
}

__device__ inline int num_valid_rows(const ExpertPairArgs& args) {
  return args.num_valid_rows == nullptr ? args.num_rows : clamped(*args.num_valid_rows, args.num_rows);
}

template <int kWords>
__device__ PairChunk chunk_of_block(const ExpertPairArgs& args, int block) {
  constexpr int kRows = 32 * kWords;
  const int first_row = block * kRows;
  const int num_rows = clamped(args.num_rows - first_row, kRows);
  return {first_row, num_rows, clamped(num_valid_rows(args) - first_row, num_rows)};
}

// Sum of `value` over the threads before this one.
__device__ inline int sum_before(int value, int32_t (&warp_sums)[kPairWarps]) {
  const int lane = thread_x() % kWarpSize;
  const int warp = thread_x() / kWarpSize;
  int sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int other = shuffle(sum, (lane - distance) & (kWarpSize - 1));
    if (lane >= distance) sum += other;
  }
  if (lane == kWarpSize - 1) warp_sums[warp] = sum;
  sync_threads();
  int before = sum - value;
#pragma unroll
  for (int i = 0; i < kPairWarps; ++i) before += i < warp ? warp_sums[i] : 0;
  return before;
}

// Fills storage.rows with the chunk's valid rows; who reads them waits for the block first. args.experts is
// read after a barrier.
template <int kWords>
__device__ void mark_rows(const ExpertPairArgs& args, const PairChunk& chunk, PairStorage<kWords>& storage) {
#pragma unroll
  for (int word = 0; word < kWords; ++word) storage.rows[word][thread_x()] = 0;
  sync_threads();
  const int32_t* experts = args.experts + int64_t{chunk.first_row} * args.num_chosen;
  for (int i = thread_x(); i < chunk.num_valid * args.num_chosen; i += kPairThreads) {
    const int row = i / args.num_chosen;
    set_bits_shared(&storage.rows[row / 32][experts[i]], 1u << row % 32);
  }
}

// How many of the marked rows chose the thread's expert.
template <int kWords>
__device__ int count_rows(const PairStorage<kWords>& storage) {
  int count = 0;
#pragma unroll
  for (int word = 0; word < kWords; ++word) count += count_bits(storage.rows[word][thread_x()]);
  return count;
}

// Numbers the chunk's pairs. `before`: pairs of the thread's expert in earlier chunks; `all`: in all of them.
template <int kWords>
__device__ void place_rows(const ExpertPairArgs& args, const PairChunk& chunk, int before, int all,
                           PairStorage<kWords>& storage) {
  const int expert = thread_x();
  const int first = sum_before(all, storage.warp_sums);
  if (chunk.first_row == 0 && expert < args.num_experts) {
    args.first_pairs[expert] = first;
    if (expert == args.num_experts - 1) args.first_pairs[args.num_experts] = first + all;
  }
  int next = first + before;
#pragma unroll
  for (int word = 0; word < kWords; ++word) {
    storage.first_pair[word][expert] = next;
    next += count_bits(storage.rows[word][expert]);
  }
  sync_threads();
  const int64_t offset = int64_t{chunk.first_row} * args.num_chosen;
  for (int i = thread_x(); i < chunk.num_rows * args.num_chosen; i += kPairThreads) {
    const int row = i / args.num_chosen;
    if (row >= chunk.num_valid) {  // valid rows have num_chosen pairs each, so that `i` is beyond them all
      args.pair_of[offset + i] = -1;
      args.pair_rows[offset + i] = 0;
      continue;
    }
    const int chosen = args.experts[offset + i];
    const uint32_t earlier = storage.rows[row / 32][chosen] & ((1u << row % 32) - 1);
    const int pair = storage.first_pair[row / 32][chosen] + count_bits(earlier);
    args.pair_of[offset + i] = pair;
    args.pair_rows[pair] = chunk.first_row + row;
  }
}

// For a block that has all rows.
template <int kWords>
__device__ void order_pairs(const ExpertPairArgs& args, PairStorage<kWords>& storage) {
  const PairChunk chunk = chunk_of_block<kWords>(args, 0);
  mark_rows<kWords>(args, chunk, storage);
  sync_threads();
  const int count = count_rows<kWords>(storage);
  place_rows<kWords>(args, chunk, 0, count, storage);
}

}  // namespace autoglm::cuda
