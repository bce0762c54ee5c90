// quantized product: out = epilogue(sum over k of row_factor * (code * scale + min) * in)
//
// Shapes:   ProductArgs in product.h. Orders: weight_order.h, stripe_plan.h. Constraints: quantized.h.
// Rounding: codes and activations are exact; sums over scale_k of k in f32 inside the tensor cores, scaled
//           and added by one FMA each, in ascending k; segments of stripe_plan.h in ascending order.
// Cost:     few rows: memory bound, bits / 8 + 2 / group bytes per weight; many: 2 flops per row and weight.
// Source:   Marlin, Frantar et al. 2024 (arXiv 2408.11743): fragment order, stripes, streamed weights.
// Twin:     cpu/matmul.cpp.
//
// Eight warps take a panel of weights each, or four panels and two halves of the rows. Copies of a slab run
// num_stages - 1 ahead. All tiles give the same chain of operations to an output.
#pragma once

#include "cuda/gemm/epilogue.cuh"
#include "cuda/quantized/quantized_tile.cuh"

namespace autoglm::cuda {

// Which rows row tile `index` has; false if there are fewer tiles. Each warp finds them by itself.
__device__ inline bool find_rows(const ProductArgs& args, int tokens, int index, RowTile& rows) {
  if (args.experts.first_pairs == nullptr) {
    rows.expert = 0;
    rows.first = index * tokens;
    rows.count = args.num_rows - rows.first < tokens ? args.num_rows - rows.first : tokens;
    return rows.count > 0;
  }
  const int lane = thread_of_block() % kWarpSize;
  int before = 0;  // row tiles of the experts before these 32
  for (int first = 0; first < args.experts.num_experts; first += kWarpSize) {
    const int expert = first + lane;
    const bool is_there = expert < args.experts.num_experts;
    const int begin = is_there ? args.experts.first_pairs[expert] : 0;
    const int end = is_there ? args.experts.first_pairs[expert + 1] : 0;
    const int tiles = (end - begin + tokens - 1) / tokens;
    int through = tiles;  // row tiles up to and with this expert's
#pragma unroll
    for (int step = 1; step < kWarpSize; step *= 2) {
      const int other = shuffle(through, (lane - step) & (kWarpSize - 1));
      if (lane >= step) through += other;
    }
    const uint32_t later = ballot(before + through > index);
    if (later != 0) {
      const int found = count_bits(~later & (later - 1));  // the lowest lane
      const int in_expert = index - before - shuffle(through - tiles, found);
      rows.expert = first + found;
      rows.first = shuffle(begin, found) + in_expert * tokens;
      const int left = shuffle(end, found) - rows.first;
      rows.count = left < tokens ? left : tokens;
      return true;
    }
    before += shuffle(through, kWarpSize - 1);
  }
  return false;
}

// Two neighbouring outputs, or the first alone.
struct alignas(8) Floats2 {
  float value[2];
};
__device__ inline void write_pair(const ProductArgs& args, int64_t row, int column, bool is_wide, Floats2 y) {
  const int left = args.num_outputs() - column;
  const int64_t offset = row * args.out_stride + column;
  if (left >= 2 && is_wide) {
    if (args.epilogue == Epilogue::plain) {
      Floats2 residual = {};
      if (args.residual != nullptr) residual = *reinterpret_cast<const Floats2*>(args.residual + offset);
      y = {{finished(args, y.value[0], residual.value[0]), finished(args, y.value[1], residual.value[1])}};
    }
    if (args.out != nullptr) {
      *reinterpret_cast<Floats2*>(args.out + offset) = y;
    } else {
      *reinterpret_cast<uint32_t*>(args.out_bf16 + offset) = pack_bf16(y.value[0], y.value[1]);
    }
    return;
  }
  if (left >= 1) write_output(args, offset, y.value[0]);
  if (left >= 2) write_output(args, offset + 1, y.value[1]);
}

// True if two outputs can be read and written at once, at any even column.
__device__ inline bool has_paired_outputs(const ProductArgs& args) {
  const auto out = reinterpret_cast<uintptr_t>(args.out) | reinterpret_cast<uintptr_t>(args.residual) |
                   2 * reinterpret_cast<uintptr_t>(args.out_bf16);
  return (out | static_cast<uintptr_t>(4 * args.out_stride)) % 8 == 0;
}

// One token's four rows of a lane, [tile][half].
__device__ inline void write_lane_rows(const ProductArgs& args, int64_t row, int first_weight_row,
                                       bool is_wide, float factor, const float (&sums)[2][2]) {
  Floats2 y[2];  // by half of the tiles: neighbouring rows
#pragma unroll
  for (int i = 0; i < kLaneRows; ++i) {
    const int weight_row = first_weight_row + i / 2 * 8 + i % 2;
    y[i / 2].value[i % 2] =
        weight_row < args.w.n ? biased(args, factor * sums[i % 2][i / 2], weight_row) : 0.0f;
  }
  if (args.epilogue != Epilogue::plain) {
    y[0] = {{activated(args.activation, y[0].value[0]), activated(args.activation, y[0].value[1])}};
  }
  if (args.epilogue == Epilogue::gated) {
    const Floats2 gated = {{y[0].value[0] * y[1].value[0], y[0].value[1] * y[1].value[1]}};
    write_pair(args, row, first_weight_row / 16 * 8 + first_weight_row % 8, is_wide, gated);
    return;
  }
  if (args.epilogue == Epilogue::activated) {
    y[1] = {{activated(args.activation, y[1].value[0]), activated(args.activation, y[1].value[1])}};
  }
  write_pair(args, row, first_weight_row, is_wide, y[0]);
  write_pair(args, row, first_weight_row + 8, is_wide, y[1]);
}

// Writes a thread's outputs. The sums move down by a token each turn, so that the code is there once.
template <QuantizedTile kTile>
__device__ void write_sums(const ProductArgs& args, const RowTile& rows, int panel, int token_warp,
                           QuantizedSums<kTile>& sums) {
  if (panel * static_cast<int>(kPanelRows) >= args.w.n) return;
  const int lane = thread_of_block() % kWarpSize;
  const float factor = args.w.row_factors == nullptr
                           ? 1.0f
                           : args.w.row_factors[rows.expert * args.experts.row_factor_stride + panel];
  const int weight_row =
      panel * static_cast<int>(kPanelRows) + row_of_place({.tile = 0, .half = 0, .lane_row = lane / 4});
  const bool is_wide = has_paired_outputs(args);
  int token = token_warp * kTile.token_tiles * 8 + lane % 4 * 2;
#pragma unroll 1
  for (int i = 0; i < 2 * kTile.token_tiles; ++i) {
    if (token < rows.count) {
      const float now[2][2] = {{sums.value[0][0][0], sums.value[0][0][2]},
                               {sums.value[1][0][0], sums.value[1][0][2]}};
      write_lane_rows(args, rows.first + token, weight_row, is_wide, factor, now);
    }
    token += i % 2 == 0 ? 1 : 7;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (int at = 0; at < kTile.token_tiles; ++at) {
        auto& value = sums.value[tile][at];
        const bool is_last = at + 1 == kTile.token_tiles;
        const float next_low = is_last ? 0.0f : sums.value[tile][is_last ? at : at + 1][0];
        const float next_high = is_last ? 0.0f : sums.value[tile][is_last ? at : at + 1][2];
        value[0] = value[1];
        value[2] = value[3];
        value[1] = next_low;
        value[3] = next_high;
      }
    }
  }
}

template <QuantizedTile kTile>
__device__ void add_sums(QuantizedSums<kTile>& total, const QuantizedSums<kTile>& added) {
#pragma unroll
  for (int i = 0; i < 8 * kTile.token_tiles; ++i) {
    total.value[i / 4 / kTile.token_tiles][i / 4 % kTile.token_tiles][i % 4] +=
        added.value[i / 4 / kTile.token_tiles][i / 4 % kTile.token_tiles][i % 4];
  }
}

// A thread's words of a partial: 16 bytes for each tile and 8 tokens, side by side with those of its
// neighbours.
template <QuantizedTile kTile>
__device__ Floats4* partial_of_thread(const ProductArgs& args, const StripePlan& plan, int partial) {
  constexpr int64_t kWords = int64_t{2 * kTile.token_tiles} * kQuantizedThreads;
  auto* first = reinterpret_cast<Floats4*>(static_cast<uint8_t*>(args.workspace) + kQuantizedTicketBytes);
  return first + (int64_t{block_y()} * plan.num_partials() + partial) * kWords + thread_of_block();
}

template <QuantizedTile kTile>
__device__ void write_partial(const ProductArgs& args, const StripePlan& plan, int partial,
                              const QuantizedSums<kTile>& sums) {
  Floats4* to = partial_of_thread<kTile>(args, plan, partial);
#pragma unroll
  for (int i = 0; i < 2 * kTile.token_tiles; ++i) {
    const auto& value = sums.value[i / kTile.token_tiles][i % kTile.token_tiles];
    to[i * kQuantizedThreads] = {{value[0], value[1], value[2], value[3]}};
  }
}

// The segments of a band in ascending order.
template <QuantizedTile kTile>
__device__ void merge_partials(const ProductArgs& args, const StripePlan& plan, int band,
                               QuantizedSums<kTile>& total) {
#pragma unroll 1
  for (int stripe = plan.first_stripe(band); stripe <= plan.last_stripe(band); ++stripe) {
    const Floats4* from = partial_of_thread<kTile>(args, plan, plan.partial_of(band, stripe));
    QuantizedSums<kTile> sums;
#pragma unroll
    for (int i = 0; i < 2 * kTile.token_tiles; ++i) {
      const Floats4 four = from[i * kQuantizedThreads];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sums.value[i / kTile.token_tiles][i % kTile.token_tiles][j] = four.value[j];
      }
    }
    add_sums(total, sums);
  }
}

// True in the block that finishes the band last: it sees what all others wrote. No two cut bands begin in one
// stripe, whose number is that of the ticket.
__device__ inline bool is_last_segment(const ProductArgs& args, const StripePlan& plan, int band,
                                       uint32_t& is_last) {
  sync_threads();
  if (thread_of_block() == 0) {
    const int first = plan.first_stripe(band);
    uint32_t* ticket = static_cast<uint32_t*>(args.workspace) + block_y() * plan.num_stripes + first;
    is_last = take_ticket(ticket) == static_cast<uint32_t>(plan.last_stripe(band) - first) ? 1 : 0;
    if (is_last != 0) *ticket = 0;
  }
  sync_threads();
  return is_last != 0;
}

// Slabs from the one of this number to the end of the segment.
template <QuantizedTile kTile>
__device__ int slabs_of_segment(const StripePlan& plan, int number) {
  const int band = number / plan.num_slabs * kTile.row_warps / kBandPanels;
  const int slab = number % plan.num_slabs;
  const int of_band = plan.num_slabs - slab;
  const int of_stripe = plan.stripe - (band * plan.num_slabs + slab) % plan.stripe;
  return of_band < of_stripe ? of_band : of_stripe;
}

// Puts the sums of the segment that the block has of a cut band in the workspace. True in the last block,
// where they are those of the whole band then.
template <QuantizedTile kTile>
__device__ bool merge_segment(const ProductArgs& args, QuantizedWork& work, int band,
                              QuantizedSums<kTile>& sums) {
  write_partial(args, work.plan, work.plan.partial_of(band, block_x()), sums);
  if (!is_last_segment(args, work.plan, band, work.is_last)) return false;
  sums = {};
  merge_partials(args, work.plan, band, sums);
  return true;
}

// Ends the segment whose last slab has this number; `total` has those before it, where a block takes whole
// sums of several.
template <QuantizedTile kTile>
__device__ void finish_segment(const ProductArgs& args, QuantizedWork& work, int number,
                               QuantizedSums<kTile>& total, QuantizedSums<kTile>& sums) {
  const int tile = number / work.plan.num_slabs;
  bool is_complete = number % work.plan.num_slabs + 1 == work.plan.num_slabs;
  if (may_be_striped(kTile) && work.takes_stripe != 0) {
    if (work.plan.is_cut(tile)) is_complete = merge_segment(args, work, tile, sums);
  } else if constexpr (!kTile.is_always_striped) {
    add_sums(total, sums);
    if (is_complete) sums = total;
  }
  if (is_complete) {
    const int warp = thread_of_block() / kWarpSize;
    write_sums(args, work.rows, tile * kTile.row_warps + warp % kTile.row_warps, warp / kTile.row_warps,
               sums);
  }
  sums = {};
}

template <QuantizedForm kForm, QuantizedTile kTile>
__device__ void multiply_quantized(const ProductArgs& args) {
  constexpr int kStages = num_stages(kForm);
  // Three stages are counted: found from the slab, they would keep an address for every copy in registers.
  constexpr bool kIsCounted = kStages == 3;
  const auto stage_of = [](int left) { return static_cast<uint32_t>(left) % kStages; };
  auto& storage = shared_storage<QuantizedStorage<kForm, kTile>>();
  QuantizedWork& work = storage.work;
  RowTile rows;
  if (!find_rows(args, kTile.tokens(), block_y(), rows)) return;
  const bool takes_stripe = kTile.is_always_striped || is_striped(problem_of(args), kTile);
  const StripePlan plan = stripes_of(args.w.n, args.w.k);
  if (thread_of_block() == 0) work = {rows, plan, evict_first_policy(), takes_stripe ? 1u : 0u, 0};
  sync_threads();

  const InputPieces<kTile> input = input_of_thread<kTile>(args, rows);
  SlabCursor<kForm, kTile> ahead;
  ahead.left = slabs_of_block(plan, takes_stripe);
  ahead.slab = slab_number(plan, takes_stripe, ahead.left) % plan.num_slabs;
  point_to_panel(args, rows.expert, slab_number(plan, takes_stripe, ahead.left) / plan.num_slabs, ahead);
#pragma unroll 1
  for (int i = 0; i < kStages - 1; ++i) {
    const uint32_t stage = kIsCounted ? i : stage_of(ahead.left);
    if (ahead.left > 0) copy_slab(args, work, input, ahead, storage.stages[stage]);
    commit_copies();
    advance(args, work, ahead);
  }
  uint32_t counted = kStages - 1;

  QuantizedSums<kTile> total;
  QuantizedSums<kTile> sums;
#pragma unroll 1
  while (ahead.left + kStages - 1 > 0) {
    const int first = slab_number(work.plan, work.takes_stripe != 0, ahead.left + kStages - 1);
#pragma unroll 1
    for (int left = slabs_of_segment<kTile>(work.plan, first); left > 0; --left) {
      wait_for_copies<kStages - 2>();
      sync_threads();
      const uint32_t stage = stage_of(ahead.left + kStages - 1);
      if (ahead.left > 0) {
        copy_slab(args, work, input, ahead, storage.stages[kIsCounted ? counted : stage_of(ahead.left)]);
      }
      commit_copies();
      advance(args, work, ahead);
      counted = counted + 1 == kStages ? 0 : counted + 1;
      multiply_slab(storage.stages[kIsCounted ? counted : stage], work.rows.count, group_of<kForm>(args),
                    sums);
    }
    finish_segment(args, work, slab_number(work.plan, work.takes_stripe != 0, ahead.left + kStages), total,
                   sums);
  }
}

}  // namespace autoglm::cuda

// An entry point for one form of weights and one tile. Few rows: two blocks share a multiprocessor.
#define AUTOGLM_QUANTIZED_ENTRY(entry, form, tile)                                                   \
  extern "C" __global__ void __launch_bounds__(autoglm::cuda::kQuantizedThreads, (tile) < 3 ? 2 : 1) \
      entry(const __grid_constant__ autoglm::cuda::ProductArgs args) {                               \
    autoglm::cuda::multiply_quantized<form, autoglm::cuda::kQuantizedTiles[tile]>(args);             \
  }
