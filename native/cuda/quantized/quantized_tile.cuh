// One slab of a product with quantized weights: its copies to shared memory, and its part of the sums.
//
// Codes enter the tensor cores as exact bfloat16, as the first operand; 8 rows of activations are the second.
// Each sum over scale_k of k starts from zero and is then multiplied by its scale in f32: no weight is
// rounded, and one FMA replaces the four multiplications that 8 scaled weights of a lane would take. Mins
// multiply the sum of the activations, which a product with ones gives in the order of the other sums.
#pragma once

#include "cuda/quantized/dequantize.cuh"

namespace autoglm::cuda {

// Sums of a thread: rows of weight_order.h, by tile and 8 tokens.
template <QuantizedTile kTile>
struct QuantizedSums {
  float value[2][kTile.token_tiles][4] = {};
};

inline constexpr int kRowPieces = kSlabK / 8;  // 16-byte pieces of a row of activations in a slab
inline constexpr uint32_t kNone = 0xffffffff;  // no piece

// A thread's pieces of the rows of activations, counted in pieces; kNone for a row that is not there.
template <QuantizedTile kTile>
struct InputPieces {
  static constexpr int kCount = (kTile.tokens() * kRowPieces + kQuantizedThreads - 1) / kQuantizedThreads;
  static_assert(kQuantizedThreads % kRowPieces == 0);
  uint32_t first[kCount];
};

template <QuantizedTile kTile>
__device__ InputPieces<kTile> input_of_thread(const ProductArgs& args, const RowTile& rows) {
  InputPieces<kTile> pieces;
#pragma unroll
  for (int i = 0; i < InputPieces<kTile>::kCount; ++i) {
    const int piece = i * kQuantizedThreads + thread_of_block();
    const int token = piece / kRowPieces;
    pieces.first[i] = kNone;
    if (token >= rows.count) continue;
    const int row =
        args.input_rows == nullptr ? rows.first + token : global_pointer(args.input_rows)[rows.first + token];
    pieces.first[i] =
        static_cast<uint32_t>(row) * static_cast<uint32_t>(args.in_stride / 8) + piece % kRowPieces;
  }
  return pieces;
}

// The slab that a thread copies next, and from where, in pieces: its panel is that of its warp in a tile.
template <QuantizedForm kForm, QuantizedTile kTile>
struct SlabCursor {
  static constexpr int kPanelThreads = kQuantizedThreads / kTile.row_warps;
  static constexpr int kPanelPieces = slab_bytes(kForm.bits) / kPieceBytes;
  static constexpr int kScalePieces = slab_scales(kForm) * 2 / kPieceBytes;
  static_assert(2 * kScalePieces <= kPanelThreads);

  int slab;
  int left;         // slabs of the block from here on
  uint32_t codes;   // this thread's first piece of the slab; kNone beyond the last panel
  uint32_t scales;  // of slab 0, or of mins; kNone for a thread that copies neither
};

// The group of a product's weights, where the form alone does not say it.
template <QuantizedForm kForm>
__device__ int group_of(const ProductArgs& args) {
  return kForm.scale_k == 16 || (kForm.bits == 4 && kForm.scale_k == 32) ? kForm.scale_k : args.w.group;
}
constexpr uint32_t scale_pieces_of_unit(int group) { return unit_scales(group) * 2 / kPieceBytes; }

template <QuantizedForm kForm, QuantizedTile kTile>
__device__ void point_to_panel(const ProductArgs& args, int expert, int tile,
                               SlabCursor<kForm, kTile>& cursor) {
  using Cursor = SlabCursor<kForm, kTile>;
  const uint32_t thread = thread_of_block() % Cursor::kPanelThreads;
  const uint32_t panel = tile * kTile.row_warps + thread_of_block() / Cursor::kPanelThreads;
  cursor.codes = kNone;
  cursor.scales = kNone;
  if (static_cast<int>(panel) * static_cast<int>(kPanelRows) >= args.w.n) return;
  cursor.codes = static_cast<uint32_t>(expert * args.experts.weight_stride / kPieceBytes) +
                 (panel * static_cast<uint32_t>(num_slabs(args.w.k)) + cursor.slab) * Cursor::kPanelPieces +
                 thread;
  const uint32_t unit_pieces = scale_pieces_of_unit(group_of<kForm>(args));
  if (thread / Cursor::kScalePieces > (kForm.has_mins ? 1 : 0)) return;
  if (thread % Cursor::kScalePieces >= unit_pieces) return;
  cursor.scales = static_cast<uint32_t>(expert * args.experts.scale_stride / kPieceBytes) +
                  panel * static_cast<uint32_t>(num_units(args.w.k, group_of<kForm>(args))) * unit_pieces +
                  thread % Cursor::kScalePieces;
}

// Slabs of a block: a stripe, or the whole sums of a tile.
__device__ inline int slabs_of_block(const StripePlan& plan, bool takes_stripe) {
  if (!takes_stripe) return plan.num_slabs;
  const int left = plan.total() - block_x() * plan.stripe;
  return left < plan.stripe ? left : plan.stripe;
}

// Number of the slab at which `left` slabs of the block are left, counted from the first of the matrix.
__device__ inline int slab_number(const StripePlan& plan, bool takes_stripe, int left) {
  const int first = block_x() * (takes_stripe ? plan.stripe : plan.num_slabs);
  return first + slabs_of_block(plan, takes_stripe) - left;
}

template <QuantizedForm kForm, QuantizedTile kTile>
__device__ void advance(const ProductArgs& args, const QuantizedWork& work,
                        SlabCursor<kForm, kTile>& cursor) {
  --cursor.left;
  if (cursor.codes != kNone) cursor.codes += SlabCursor<kForm, kTile>::kPanelPieces;
  if (++cursor.slab * kSlabK < args.w.k) return;
  cursor.slab = 0;
  if (cursor.left <= 0) return;
  const int tile = slab_number(work.plan, work.takes_stripe != 0, cursor.left) / work.plan.num_slabs;
  point_to_panel(args, work.rows.expert, tile, cursor);
}

template <typename T>
__device__ const T* at_piece(const T* first, uint32_t piece) {
  return first + uint64_t{piece} * (kPieceBytes / sizeof(T));
}

// Begins the copies of a slab. Rows that are not there, and what is beyond k, become zeros.
template <QuantizedForm kForm, QuantizedTile kTile>
__device__ void copy_slab(const ProductArgs& args, const QuantizedWork& work, const InputPieces<kTile>& input,
                          const SlabCursor<kForm, kTile>& cursor, QuantizedStage<kForm, kTile>& stage) {
  using Cursor = SlabCursor<kForm, kTile>;
  const int thread = thread_of_block() % Cursor::kPanelThreads;
  const int warp = thread_of_block() / Cursor::kPanelThreads;
  if (cursor.codes != kNone) {
    const uint8_t* from = at_piece(static_cast<const uint8_t*>(args.w.weights), cursor.codes);
    const uint64_t policy = work.policy;
#pragma unroll
    for (int i = 0; i < Cursor::kPanelPieces / Cursor::kPanelThreads; ++i) {
      const int at = i * Cursor::kPanelThreads * kPieceBytes;
      uint8_t* to = &stage.codes[warp][thread * kPieceBytes + at];
      // Weights that other blocks read as well stay in the L2 cache.
      if constexpr (kTile.token_warps > 1) {
        copy_async(to, from + at, true);
      } else {
        copy_async_with_policy(to, from + at, true, policy);
      }
    }
  }
  if (cursor.scales != kNone) {
    const int kind = thread / Cursor::kScalePieces;
    const auto* from = static_cast<const uint8_t*>(kind == 0 ? args.w.scales : args.w.mins);
    const uint32_t piece =
        cursor.scales + static_cast<uint32_t>(unit_of_slab(cursor.slab, group_of<kForm>(args))) *
                            scale_pieces_of_unit(group_of<kForm>(args));
    copy_async(&stage.scales[kind][warp][thread % Cursor::kScalePieces * 8], at_piece(from, piece), true);
  }
  const int piece = thread_of_block() % kRowPieces;
  const bool is_in_k = cursor.slab * kSlabK + piece * 8 < args.w.k;
#pragma unroll
  for (int i = 0; i < InputPieces<kTile>::kCount; ++i) {
    const int row = (i * kQuantizedThreads + thread_of_block()) / kRowPieces;
    if (row >= kTile.tokens()) break;
    const bool is_valid = is_in_k && input.first[i] != kNone;
    const uint32_t from = is_valid ? input.first[i] + cursor.slab * kRowPieces : 0;
    copy_async(&stage.in[row][piece_of_row(row, piece) * 8], at_piece(args.in, from), is_valid);
  }
}

// Second operands of 8 tokens for the steps of a span.
template <QuantizedForm kForm>
__device__ void load_tokens(const Bf16 (*in)[kSlabK], int span, int lane,
                            uint32_t (&out)[kSpanSteps<kForm> / 2][4]) {
  const int row = lane % 8;
#pragma unroll
  for (int i = 0; i < kSpanSteps<kForm> / 2; ++i) {
    const int piece = span * kSpanK<kForm> / 8 + 4 * i + lane / 8;
    load_matrices(out[i], &in[row][piece_of_row(row, piece) * 8]);
  }
}

// What a warp holds of the weights of a span.
template <QuantizedForm kForm>
struct SpanWeights {
  uint32_t codes[2][kSpanSteps<kForm>][4];
  float scales[kSpanScales<kForm>][kLaneRows];
  float mins[kSpanScales<kForm>][kLaneRows];
};

// Adds the products with 8 tokens.
template <QuantizedForm kForm>
__device__ void multiply_tokens(const SpanWeights<kForm>& weights, const Bf16 (*in)[kSlabK], int span,
                                int lane, float (&sums0)[4], float (&sums1)[4]) {
  constexpr int kSteps = kForm.scale_k / kFragmentK;
  uint32_t tokens[kSpanSteps<kForm> / 2][4];
  load_tokens<kForm>(in, span, lane, tokens);
#pragma unroll
  for (int part = 0; part < kSpanScales<kForm>; ++part) {
    float products[2][4] = {};
    float in_sums[4] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int step = part * kSteps + i;
      const uint32_t low = tokens[step / 2][step % 2 * 2];
      const uint32_t high = tokens[step / 2][step % 2 * 2 + 1];
      multiply_bf16(products[0], weights.codes[0][step], low, high);
      multiply_bf16(products[1], weights.codes[1][step], low, high);
      if constexpr (kForm.has_mins) multiply_bf16(in_sums, {kOnes, kOnes, kOnes, kOnes}, low, high);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums0[i] = multiply_add(weights.scales[part][i / 2], products[0][i], sums0[i]);
      sums1[i] = multiply_add(weights.scales[part][2 + i / 2], products[1][i], sums1[i]);
      if constexpr (kForm.has_mins) {
        sums0[i] = multiply_add(weights.mins[part][i / 2], in_sums[i % 2], sums0[i]);
        sums1[i] = multiply_add(weights.mins[part][2 + i / 2], in_sums[i % 2], sums1[i]);
      }
    }
  }
}

// The branches skip tokens that are not there; they, and the barriers, keep the compiler from interleaving
// more than registers allow. What is between two of them is enough chains of products to hide their latency:
// two, or three with mins, for each of four warps that share a scheduler; four where only two warps do.
template <QuantizedForm kForm, QuantizedTile kTile>
__device__ void multiply_slab(const QuantizedStage<kForm, kTile>& stage, int num_tokens, int group,
                              QuantizedSums<kTile>& sums) {
  constexpr int kTogether = kTile.token_tiles == 8 && !kForm.has_mins ? 2 : 1;
  const int lane = thread_of_block() % kWarpSize;
  const int row_warp = thread_of_block() / kWarpSize % kTile.row_warps;
  const int first = thread_of_block() / kWarpSize / kTile.row_warps * kTile.token_tiles * 8;
#pragma unroll
  for (int span = 0; span < kSlabK / kSpanK<kForm>; ++span) {
    if (span > 0) sync_warp();
    SpanWeights<kForm> weights;
    load_codes<kForm>(stage.codes[row_warp], 0, span, lane, weights.codes[0]);
    load_codes<kForm>(stage.codes[row_warp], 1, span, lane, weights.codes[1]);
    load_scales<kForm>(stage.scales[0][row_warp], span, lane, group, weights.scales);
    if constexpr (kForm.has_mins) {
      load_scales<kForm>(stage.scales[1][row_warp], span, lane, group, weights.mins);
    }
#pragma unroll
    for (int tokens = 0; tokens < kTile.token_tiles; tokens += kTogether) {
      if (kTile.token_tiles > kTogether && first + tokens * 8 >= num_tokens) break;
#pragma unroll
      for (int i = tokens; i < tokens + kTogether; ++i) {
        multiply_tokens(weights, stage.in + first + i * 8, span, lane, sums.value[0][i], sums.value[1][i]);
      }
    }
  }
}

}  // namespace autoglm::cuda
