// heads product: out[r, h] = w[h] in[r, h], a small matrix per head
// Shapes:   HeadsProductArgs. In latent attention w is k_b [rank, nope] or v_b [output, rank].
// Needs:    n % 8 == 0, k % 8 == 0, strides and alignment as the arguments say.
// Rounding: the input to bf16; products of bf16 summed in f32, 16 of k at a time and ascending in one chain
// per
//           output, so that a row has the same bits from both tiles; maybe one rounding to bf16.
// Cost:     few rows: memory bound, 2 bytes per weight. Many: 2 * n * k flops per row and head.
// Twin:     the products of model/latent_attention.cpp, cpu/matmul_bf16_kernel.h.
#include "cuda/device/ptx.cuh"
#include "cuda/heads/heads_product.h"
#include "cuda/heads/heads_tile.h"

namespace autoglm::cuda {
namespace {

struct alignas(16) Words {
  uint32_t word[4];
};
struct alignas(16) FourFloats {
  float value[4];
};

__device__ Words rounded(const FourFloats (&values)[2]) {
  Words out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.word[i] = pack_bf16(values[i / 2].value[i % 2 * 2], values[i / 2].value[i % 2 * 2 + 1]);
  }
  return out;
}

// Where a block's part of the product lies.
struct BlockPlace {
  int head;
  int first_row;
  int first_col;
};

template <typename Tile>
__device__ BlockPlace place_of_block(const HeadsProductArgs& args) {
  const int num_tiles = (args.n + Tile::kCols - 1) / Tile::kCols;
  return {block_x() / num_tiles, block_y() * Tile::kRows, block_x() % num_tiles * Tile::kCols};
}

// Begins to copy the weights of k first_k .. first_k + kDepth - 1; zeros beyond n and k.
template <typename Tile>
__device__ void load_weights(const HeadsProductArgs& args, const BlockPlace& place, int first_k,
                             HeadsStage<Tile>& stage) {
  constexpr int kChunks = Tile::kDepth / kHeadsChunk;
  const Bf16* w = args.w + int64_t{place.head} * args.n * args.k;
#pragma unroll
  for (int i = 0; i < Tile::kCols * kChunks / kHeadsThreads; ++i) {
    const int index = thread_x() + i * kHeadsThreads;
    const int col = place.first_col + index / kChunks;
    const int k = first_k + index % kChunks * kHeadsChunk;
    const bool is_valid = col < args.n && k < args.k;
    copy_async(stage.w + chunk_offset<Tile::kDepth>(index / kChunks, index % kChunks),
               is_valid ? w + int64_t{col} * args.k + k : w, is_valid);
  }
}

// The block's input. bf16 is copied as it is; f32 waits in registers until it is rounded, while products of
// earlier stages go on.
template <typename Tile, typename Input>
class InputLoad {
 public:
  __device__ void begin(const HeadsProductArgs& args, const BlockPlace& place, int first_k,
                        HeadsStage<Tile>& stage) {
#pragma unroll
    for (int i = 0; i < kNumChunks; ++i) {
      const int index = thread_x() + i * kHeadsThreads;
      const int row = place.first_row + index / kChunks;
      const int k = first_k + index % kChunks * kHeadsChunk;
      const bool is_valid = row < args.num_rows && k < args.k;
      const int64_t offset = row * args.in_row_stride + place.head * args.in_head_stride + k;
      if constexpr (kIsCopied) {
        copy_async(stage.in + chunk_offset<Tile::kDepth>(index / kChunks, index % kChunks),
                   is_valid ? args.in_bf16 + offset : args.in_bf16, is_valid);
      } else {
        values_[i][0] = values_[i][1] = {};
        if (!is_valid) continue;
        values_[i][0] = *reinterpret_cast<const FourFloats*>(args.in + offset);
        values_[i][1] = *reinterpret_cast<const FourFloats*>(args.in + offset + 4);
      }
    }
  }

  __device__ void finish(HeadsStage<Tile>& stage) const {
    if constexpr (!kIsCopied) {
#pragma unroll
      for (int i = 0; i < kNumChunks; ++i) {
        const int index = thread_x() + i * kHeadsThreads;
        *reinterpret_cast<Words*>(stage.in + chunk_offset<Tile::kDepth>(index / kChunks, index % kChunks)) =
            rounded(values_[i]);
      }
    }
  }

 private:
  static constexpr bool kIsCopied = sizeof(Input) == sizeof(Bf16);
  static constexpr int kChunks = Tile::kDepth / kHeadsChunk;
  static constexpr int kNumChunks = Tile::kRows * kChunks / kHeadsThreads;
  FourFloats values_[kIsCopied ? 1 : kNumChunks][2];
};

// A warp's part of a tile: kRowTiles * 16 rows by kColTiles * 8 columns.
template <typename Tile>
struct WarpTile {
  static constexpr int kRowTiles = Tile::kRows / Tile::kRowWarps / 16;
  static constexpr int kColTiles = Tile::kCols / (kHeadsWarps / Tile::kRowWarps) / 8;
  int first_row = thread_x() / kWarpSize % Tile::kRowWarps * kRowTiles * 16;
  int first_col = thread_x() / kWarpSize / Tile::kRowWarps * kColTiles * 8;
  float sums[kRowTiles][kColTiles][4] = {};

  __device__ void multiply(const HeadsStage<Tile>& stage);
  __device__ void write(const HeadsProductArgs& args, const BlockPlace& place) const;
};

template <typename Tile>
__device__ void WarpTile<Tile>::multiply(const HeadsStage<Tile>& stage) {
  const int lane = thread_x() % kWarpSize;
#pragma unroll
  for (int depth = 0; depth < Tile::kDepth / 32; ++depth) {
    uint32_t rows[kRowTiles][2][4];
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) {
      const int row = first_row + i / 2 * 16 + lane % 16;
      const int chunk = depth * 4 + i % 2 * 2 + lane / 16;
      load_matrices(rows[i / 2][i % 2], stage.in + chunk_offset<Tile::kDepth>(row, chunk));
    }
#pragma unroll
    for (int col = 0; col < kColTiles; ++col) {
      uint32_t cols[4];  // of 32 of k
      load_matrices(
          cols, stage.w + chunk_offset<Tile::kDepth>(first_col + col * 8 + lane % 8, depth * 4 + lane / 8));
#pragma unroll
      for (int row = 0; row < kRowTiles; ++row) {
        multiply_bf16(sums[row][col], rows[row][0], cols[0], cols[1]);
        multiply_bf16(sums[row][col], rows[row][1], cols[2], cols[3]);
      }
    }
  }
}

struct alignas(8) TwoFloats {
  float low;
  float high;
};

template <typename Tile>
__device__ void WarpTile<Tile>::write(const HeadsProductArgs& args, const BlockPlace& place) const {
  const int lane = thread_x() % kWarpSize;
#pragma unroll
  for (int i = 0; i < 2 * kRowTiles; ++i) {
    const int row = place.first_row + first_row + i * 8 + lane / 4;
    if (row >= args.num_rows) continue;
#pragma unroll
    for (int j = 0; j < kColTiles; ++j) {
      const int col = place.first_col + first_col + j * 8 + lane % 4 * 2;
      if (col >= args.n) continue;
      const int64_t offset = row * args.out_row_stride + place.head * args.out_head_stride + col;
      const float low = sums[i / 2][j][i % 2 * 2];
      const float high = sums[i / 2][j][i % 2 * 2 + 1];
      if (args.out != nullptr) {
        *reinterpret_cast<TwoFloats*>(global_pointer(args.out) + offset) = {low, high};
      } else {
        *reinterpret_cast<uint32_t*>(global_pointer(args.out_bf16) + offset) = pack_bf16(low, high);
      }
    }
  }
}

template <typename Tile, typename Input>
__device__ void multiply_heads(const HeadsProductArgs& args) {
  auto& storage = shared_storage<HeadsStorage<Tile>>();
  const BlockPlace place = place_of_block<Tile>(args);
  const int num_steps = (args.k + Tile::kDepth - 1) / Tile::kDepth;
  InputLoad<Tile, Input> input;
  constexpr int kAhead = Tile::kStages - 1;
#pragma unroll
  for (int step = 0; step < kAhead; ++step) {
    if (step < num_steps) {
      load_weights<Tile>(args, place, step * Tile::kDepth, storage.stages[step]);
      input.begin(args, place, step * Tile::kDepth, storage.stages[step]);
      input.finish(storage.stages[step]);
    }
    commit_copies();
  }
  WarpTile<Tile> tile;
  for (int step = 0; step < num_steps; ++step) {
    wait_for_copies<kAhead - 1>();
    sync_threads();
    const int next = step + kAhead;
    HeadsStage<Tile>& stage = storage.stages[next % Tile::kStages];
    if (next < num_steps) {
      load_weights<Tile>(args, place, next * Tile::kDepth, stage);
      input.begin(args, place, next * Tile::kDepth, stage);
    }
    commit_copies();
    tile.multiply(storage.stages[step % Tile::kStages]);
    if (next < num_steps) input.finish(stage);
  }
  wait_for_copies<0>();
  tile.write(args, place);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kHeadsThreads)
    heads_product_few_f32(const __grid_constant__ autoglm::cuda::HeadsProductArgs args) {
  autoglm::cuda::multiply_heads<autoglm::cuda::FewRows, float>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kHeadsThreads)
    heads_product_few_bf16(const __grid_constant__ autoglm::cuda::HeadsProductArgs args) {
  autoglm::cuda::multiply_heads<autoglm::cuda::FewRows, autoglm::cuda::Bf16>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kHeadsThreads)
    heads_product_many_f32(const __grid_constant__ autoglm::cuda::HeadsProductArgs args) {
  autoglm::cuda::multiply_heads<autoglm::cuda::ManyRows, float>(args);
}

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kHeadsThreads)
    heads_product_many_bf16(const __grid_constant__ autoglm::cuda::HeadsProductArgs args) {
  autoglm::cuda::multiply_heads<autoglm::cuda::ManyRows, autoglm::cuda::Bf16>(args);
}
