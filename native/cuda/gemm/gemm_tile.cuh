// gemm: out = epilogue(in * w^T), one tile of the output per block.
// Shapes and formulas: ProductArgs in product.h. Tiles: gemm_storage.h. Order, splits, layout: tile_order.h.
// Needs:    what gemm.h lists; tickets 0 (and leaves them 0).
// Rounding: products summed in f32, k ascending in steps of 16; splits added in ascending order. Weights of
//           f16: inputs become halves, see halves_of_bf16s.
// Cost:     2 flops per weight and row. Few rows: every weight is read once, 2 bytes.
// Source:   the pipeline of CUTLASS's multistage main loop (github.com/NVIDIA/cutlass, mma_multistage.h).
// Twin:     cpu/matmul_kernel.h.
#pragma once

#include "cuda/gemm/epilogue.cuh"
#include "cuda/gemm/gemm_storage.h"

namespace autoglm::cuda {

// What a block computes: rows [first_row, end_row), columns from first_col, k of one split.
struct TilePlace {
  const uint16_t* weights;  // row first_col; bfloat16 or halves
  int first_row;
  int end_row;
  int first_col;
  int first_k;
  int num_steps;  // of kDepth
  int num_splits;
};

__device__ inline int gemm_lane() { return thread_x() % kWarpSize; }
__device__ inline int gemm_warp() { return thread_x() / kWarpSize; }

// Finds row tile `row_tile` of the experts' tiles, in the order of their rows. False beyond the last one.
template <int kTileRows>
__device__ bool find_expert_tile(const ExpertRows& experts, int row_tile, int& expert, TilePlace& place) {
  const int lane = gemm_lane();
  int tiles_before = 0;
  for (int base = 0; base < experts.num_experts; base += kWarpSize) {
    const bool is_valid = base + lane < experts.num_experts;
    const int first = is_valid ? experts.first_pairs[base + lane] : 0;
    const int end = is_valid ? experts.first_pairs[base + lane + 1] : 0;
    const int tiles = (end - first + kTileRows - 1) / kTileRows;
    int end_tile = tiles_before + tiles;  // of all experts up to this lane's
#pragma unroll
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int earlier = shuffle(end_tile, (lane - distance) & (kWarpSize - 1));
      if (lane >= distance) end_tile += earlier - tiles_before;
    }
    const int found = count_bits(ballot(end_tile <= row_tile));
    if (found < kWarpSize) {
      expert = base + found;
      const int tile_of_expert = row_tile - shuffle(end_tile - tiles, found);
      place.first_row = shuffle(first, found) + tile_of_expert * kTileRows;
      place.end_row = shuffle(end, found);
      return true;
    }
    tiles_before = shuffle(end_tile, kWarpSize - 1);
  }
  return false;
}

// False for a block that has nothing to do.
template <typename Tile>
__device__ bool find_place(const ProductArgs& args, TilePlace& place) {
  const bool is_dense = args.experts.first_pairs == nullptr;
  const int num_col_tiles = (args.w.n + Tile::kCols - 1) / Tile::kCols;
  place.weights = static_cast<const uint16_t*>(args.w.weights);
  TileIndex tile;
  if (is_dense) {
    const int num_row_tiles = (args.num_rows + Tile::kRows - 1) / Tile::kRows;
    tile = tile_of_block(block_x(), num_row_tiles, num_col_tiles, Tile::kBand);
    place.first_row = tile.row * Tile::kRows;
    place.end_row = args.num_rows;
  } else {
    tile = {block_x() / num_col_tiles, block_x() % num_col_tiles};
    int expert = 0;
    if (!find_expert_tile<Tile::kRows>(args.experts, tile.row, expert, place)) return false;
    place.weights += expert * (args.experts.weight_stride / int64_t{sizeof(uint16_t)});
  }
  place.first_col = tile.col * Tile::kCols;
  place.weights += int64_t{place.first_col} * args.w.row_stride;
  int split_k = args.w.k;
  place.num_splits = 1;
  place.first_k = 0;
  if constexpr (Tile::kMaySplit) {
    const KSplits splits =
        splits_of_product(args.w.n, args.w.k, args.num_rows, is_dense ? 0 : args.experts.num_experts);
    split_k = splits.split_k;
    place.num_splits = splits.count;
    place.first_k = block_y() * split_k;
  }
  const int left = args.w.k - place.first_k;
  place.num_steps = ((left < split_k ? left : split_k) + Tile::kDepth - 1) / Tile::kDepth;
  return true;
}

// What a thread copies of each step: the same 16 bytes of rows that are kCopyRows apart.
template <typename Tile>
struct StepCopies {
  const Bf16* in[Tile::kInCopies];
  const uint16_t* weights;
  uint32_t valid_rows;    // bit i: in[i] is a row of the tile
  int num_valid_weights;  // rows of weights from the thread's first one on
  int chunk;
  int place;  // in the stage, elements
  uint64_t policy;
};

template <typename Tile>
__device__ StepCopies<Tile> plan_copies(const ProductArgs& args, const TilePlace& place) {
  StepCopies<Tile> copies;
  const int row = thread_x() / Tile::kChunks;
  copies.chunk = thread_x() % Tile::kChunks;
  copies.place = place_in_stage(row, copies.chunk, Tile::kChunks) * kChunkBf16s;
  copies.valid_rows = 0;
  const int64_t first = place.first_k + copies.chunk * kChunkBf16s;
#pragma unroll
  for (int i = 0; i < Tile::kInCopies; ++i) {
    int64_t from = place.first_row + row + i * Tile::kCopyRows;
    if (from < place.end_row) {
      copies.valid_rows |= 1u << i;
      if (args.input_rows != nullptr) from = global_pointer(args.input_rows)[from];
    } else {
      from = 0;
    }
    copies.in[i] = args.in + from * args.in_stride + first;
  }
  copies.weights = place.weights + int64_t{row} * args.w.row_stride + first;
  copies.num_valid_weights = args.w.n - place.first_col - row;
  if constexpr (Tile::kStreamsWeights) copies.policy = evict_first_policy();
  return copies;
}

// Begins to copy the operands of one step; `k` counts from the start of the split. Rows and columns beyond
// the matrices become zeros.
template <typename Tile>
__device__ void copy_step(const ProductArgs& args, const TilePlace& place, const StepCopies<Tile>& copies,
                          int step, GemmStage<Tile>& stage) {
  const int k = step * Tile::kDepth;
  const bool is_valid = place.first_k + k + copies.chunk * kChunkBf16s < args.w.k;
#pragma unroll
  for (int i = 0; i < Tile::kInCopies; ++i) {
    copy_async(stage.in + copies.place + i * Tile::kCopyRows * Tile::kDepth, copies.in[i] + k,
               is_valid && (copies.valid_rows >> i & 1) != 0);
  }
#pragma unroll
  for (int i = 0; i < Tile::kWeightCopies; ++i) {
    uint16_t* target = stage.weights + copies.place + i * Tile::kCopyRows * Tile::kDepth;
    const uint16_t* source = copies.weights + int64_t{i * Tile::kCopyRows} * args.w.row_stride + k;
    const bool is_row = is_valid && i * Tile::kCopyRows < copies.num_valid_weights;
    if constexpr (Tile::kStreamsWeights) {
      copy_async_with_policy(target, source, is_row, copies.policy);
    } else {
      copy_async(target, source, is_row);
    }
  }
}

// The operands of a warp for one m16n8k16 of each of its tiles; weights of 16 columns together.
template <typename Tile>
struct Fragments {
  uint32_t in[Tile::kRowTiles][4];
  uint32_t weights[Tile::kColTiles / 2][4];
};

template <typename Tile>
__device__ void load_fragments(const GemmStage<Tile>& stage, int step, Fragments<Tile>& fragments) {
  const int lane = gemm_lane();
  const int first_row = gemm_warp() % Tile::kWarpsDown * Tile::kWarpRows;
  const int first_col = gemm_warp() / Tile::kWarpsDown * Tile::kWarpCols;
  // All rows of a warp's tiles are multiples of 8 apart, and so in the same place of the permutation.
  const int row = first_row + lane % 16;
  const int in = place_in_stage(row, step * 2 + lane / 16, Tile::kChunks) * kChunkBf16s;
  const int col = first_col + lane / 16 * 8 + lane % 8;
  const int weights = place_in_stage(col, step * 2 + lane / 8 % 2, Tile::kChunks) * kChunkBf16s;
#pragma unroll
  for (int i = 0; i < Tile::kRowTiles; ++i) {
    load_matrices(fragments.in[i], stage.in + in + i * 16 * Tile::kDepth);
  }
#pragma unroll
  for (int i = 0; i < Tile::kColTiles / 2; ++i) {
    load_matrices(fragments.weights[i], stage.weights + weights + i * 16 * Tile::kDepth);
  }
}

// Two bfloat16 as halves, which is what tensor cores multiply halves with. Exact from 2^-14 on; below, off by
// at most 2^-25. Finite values beyond +-65504 become that; infinities become NaN, so that they show in sums.
__device__ inline uint32_t halves_of_bf16s(uint32_t word) {
  const uint32_t not_finite = multiply_add_bf16x2(word, 0, 0);  // NaN for infinities and NaN, else 0
  return pack_f16_saturated(float_of_bits(word << 16), float_of_bits(word & 0xffff0000u)) | not_finite;
}

template <typename Tile>
using WarpSums = float[Tile::kRowTiles][Tile::kColTiles][4];

template <typename Tile, DeviceLayout kLayout>
__device__ void multiply_fragments(const Fragments<Tile>& fragments, WarpSums<Tile>& sums) {
#pragma unroll
  for (int row = 0; row < Tile::kRowTiles; ++row) {
    uint32_t in[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = fragments.in[row][i];
      in[i] = kLayout == DeviceLayout::f16 ? halves_of_bf16s(word) : word;
    }
#pragma unroll
    for (int i = 0; i < Tile::kColTiles; ++i) {
      // There and back, so that neighbouring instructions share an operand.
      const int col = row % 2 == 0 ? i : Tile::kColTiles - 1 - i;
      const uint32_t(&weights)[4] = fragments.weights[col / 2];
      if constexpr (kLayout == DeviceLayout::f16) {
        multiply_f16(sums[row][col], in, weights[col % 2 * 2], weights[col % 2 * 2 + 1]);
      } else {
        multiply_bf16(sums[row][col], in, weights[col % 2 * 2], weights[col % 2 * 2 + 1]);
      }
    }
  }
}

// While a step is multiplied, the fragments of the next one come from shared memory and the step kStages - 1
// further on from global memory. A stage is overwritten behind the barrier that follows its last load.
template <typename Tile, DeviceLayout kLayout>
__device__ void accumulate(const ProductArgs& args, const TilePlace& place,
                           GemmStage<Tile> (&stages)[Tile::kStages], WarpSums<Tile>& sums) {
  const StepCopies<Tile> copies = plan_copies<Tile>(args, place);
#pragma unroll
  for (int i = 0; i < Tile::kStages - 1; ++i) {
    if (i < place.num_steps) copy_step<Tile>(args, place, copies, i, stages[i]);
    commit_copies();
  }
  wait_for_copies<Tile::kStages - 2>();
  sync_threads();
  Fragments<Tile> fragments[2];
  load_fragments<Tile>(stages[0], 0, fragments[0]);
  int current = 0;
  int vacant = Tile::kStages - 1;
#pragma unroll 1
  for (int step = 0; step < place.num_steps; ++step) {
    const int next = current + 1 == Tile::kStages ? 0 : current + 1;
#pragma unroll
    for (int i = 0; i < Tile::kSteps; ++i) {
      if (i + 1 < Tile::kSteps) {
        load_fragments<Tile>(stages[current], i + 1, fragments[(i + 1) % 2]);
      } else {
        wait_for_copies<Tile::kStages - 2>();
        sync_threads();
        load_fragments<Tile>(stages[next], 0, fragments[0]);  // behind the last step: loaded, not used
      }
      if (i == 0) {
        const int ahead = step + Tile::kStages - 1;
        if (ahead < place.num_steps) copy_step<Tile>(args, place, copies, ahead, stages[vacant]);
        commit_copies();
      }
      multiply_fragments<Tile, kLayout>(fragments[i % 2], sums);
    }
    vacant = current;
    current = next;
  }
}

// Leaves the block's sums in the workspace. True in the block that comes last: it has the sums of all splits.
template <typename Tile>
__device__ bool merge_splits(const ProductArgs& args, const TilePlace& place, uint32_t& is_last,
                             WarpSums<Tile>& sums) {
  constexpr int kTileSums = Tile::kRows * Tile::kCols;
  auto* tickets = static_cast<uint32_t*>(args.workspace);
  float* partials = reinterpret_cast<float*>(static_cast<char*>(args.workspace) + kGemmTicketBytes) +
                    int64_t{block_x()} * place.num_splits * kTileSums + 4 * thread_x();
  float* mine = partials + int64_t{block_y()} * kTileSums;
#pragma unroll
  for (int i = 0; i < Tile::kRowTiles * Tile::kColTiles; ++i) {
    const float(&four)[4] = sums[i / Tile::kColTiles][i % Tile::kColTiles];
    *reinterpret_cast<Floats4*>(mine + i * 4 * Tile::kThreads) = {{four[0], four[1], four[2], four[3]}};
  }
  sync_threads();
  if (thread_x() == 0) {
    uint32_t* ticket = tickets + block_x();
    is_last = take_ticket(ticket) + 1 == static_cast<uint32_t>(place.num_splits) ? 1 : 0;
    if (is_last != 0) *ticket = 0;
  }
  sync_threads();
  if (is_last == 0) return false;
#pragma unroll 1
  for (int split = 0; split < place.num_splits; ++split) {
    const float* partial = partials + int64_t{split} * kTileSums;
#pragma unroll
    for (int i = 0; i < Tile::kRowTiles * Tile::kColTiles; ++i) {
      const auto four = *reinterpret_cast<const Floats4*>(partial + i * 4 * Tile::kThreads);
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        float& sum = sums[i / Tile::kColTiles][i % Tile::kColTiles][part];
        sum = split == 0 ? four.value[part] : sum + four.value[part];
      }
    }
  }
  return true;
}

// Sixteen rows of one warp from its slab to the output, four outputs per lane and turn.
template <typename Tile, bool kIsGated>
__device__ void write_slab(const ProductArgs& args, const GemmSlab<Tile>& slab, int first_row, int end_row,
                           int first_col, bool is_wide) {
  constexpr int kQuads = Tile::kWarpCols / (kIsGated ? 8 : 4);
  const int num_outputs = kIsGated ? args.w.n / 2 : args.w.n;
#pragma unroll 1
  for (int i = gemm_lane(); i < 16 * kQuads; i += kWarpSize) {
    const int row = first_row + i / kQuads;
    const int quad = i % kQuads;
    // Where the quad begins in the slab, and in the output.
    const int in_slab = kIsGated ? quad / 2 * (2 * kGateRows) + quad % 2 * 4 : quad * 4;
    const int col = kIsGated ? first_col / 2 + quad * 4 : first_col + quad * 4;
    if (row >= end_row || col >= num_outputs) continue;
    const float* sums = slab.sums + i / kQuads * GemmSlab<Tile>::kStride + in_slab;
    const int weight_row = first_col + in_slab;
    Floats4 y = {};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (col + j >= num_outputs) continue;
      y.value[j] = biased(args, sums[j], weight_row + j);
      if (args.epilogue != Epilogue::plain) y.value[j] = activated(args.activation, y.value[j]);
      if constexpr (kIsGated) y.value[j] *= biased(args, sums[j + kGateRows], weight_row + j + kGateRows);
    }
    const int64_t offset = row * args.out_stride + col;
    if (is_wide && col + 4 <= num_outputs) {
      write_four(args, offset, y);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (col + j < num_outputs) write_output(args, offset + j, y.value[j]);
      }
    }
  }
}

// Through shared memory: whole rows instead of fragments, and one copy of the epilogue's code instead of one
// per register.
template <typename Tile>
__device__ void write_tile(const ProductArgs& args, const TilePlace& place, GemmSlab<Tile>& slab,
                           const WarpSums<Tile>& sums) {
  const int lane = gemm_lane();
  const bool is_wide = has_wide_outputs(args);
  const int first_row = place.first_row + gemm_warp() % Tile::kWarpsDown * Tile::kWarpRows;
  const int first_col = place.first_col + gemm_warp() / Tile::kWarpsDown * Tile::kWarpCols;
#pragma unroll
  for (int tile = 0; tile < Tile::kRowTiles; ++tile) {
    sync_warp();
#pragma unroll
    for (int i = 0; i < 2 * Tile::kColTiles; ++i) {
      float* pair = slab.sums + (lane / 4 + i % 2 * 8) * GemmSlab<Tile>::kStride + i / 2 * 8 + lane % 4 * 2;
      pair[0] = sums[tile][i / 2][i % 2 * 2];
      pair[1] = sums[tile][i / 2][i % 2 * 2 + 1];
    }
    sync_warp();
    if (args.epilogue == Epilogue::gated) {
      write_slab<Tile, true>(args, slab, first_row + 16 * tile, place.end_row, first_col, is_wide);
    } else {
      write_slab<Tile, false>(args, slab, first_row + 16 * tile, place.end_row, first_col, is_wide);
    }
  }
}

// kLayout: bf16 or f16, of the weights.
template <typename Tile, DeviceLayout kLayout>
__device__ void multiply_tile(const ProductArgs& args) {
  auto& storage = shared_storage<GemmStorage<Tile>>();
  TilePlace place;
  if (!find_place<Tile>(args, place)) return;
  WarpSums<Tile> sums = {};
  accumulate<Tile, kLayout>(args, place, storage.stages, sums);
  if constexpr (Tile::kMaySplit) {
    if (place.num_splits > 1 && !merge_splits<Tile>(args, place, storage.is_last, sums)) return;
  }
  sync_threads();  // the slabs lie where others still load a step that is not there
  write_tile<Tile>(args, place, storage.slabs[gemm_warp()], sums);
}

}  // namespace autoglm::cuda
