#include <algorithm>

#include "cuda/quantized/quantized.h"
#include "cuda/quantized/quantized_storage.h"

namespace autoglm::cuda {
namespace {

struct FormKernels {
  QuantizedForm form;
  const char* names[kNumQuantizedTiles];
  size_t shared_bytes[kNumQuantizedTiles];
};

template <QuantizedForm kForm>
constexpr FormKernels kernels_of(const char* const (&names)[kNumQuantizedTiles]) {
  return {.form = kForm,
          .names = {names[0], names[1], names[2], names[3], names[4]},
          .shared_bytes = {sizeof(QuantizedStorage<kForm, kQuantizedTiles[0]>),
                           sizeof(QuantizedStorage<kForm, kQuantizedTiles[1]>),
                           sizeof(QuantizedStorage<kForm, kQuantizedTiles[2]>),
                           sizeof(QuantizedStorage<kForm, kQuantizedTiles[3]>),
                           sizeof(QuantizedStorage<kForm, kQuantizedTiles[4]>)}};
}

#define AUTOGLM_QUANTIZED_NAMES(prefix) {prefix "_8", prefix "_16", prefix "_32", prefix "_64", prefix "_128"}
constexpr FormKernels kKernels[] = {
    kernels_of<QuantizedForm{4, 16, false}>(AUTOGLM_QUANTIZED_NAMES("quantized_w4_16")),
    kernels_of<QuantizedForm{4, 16, true}>(AUTOGLM_QUANTIZED_NAMES("quantized_w4_16_mins")),
    kernels_of<QuantizedForm{4, 32, false}>(AUTOGLM_QUANTIZED_NAMES("quantized_w4_32")),
    kernels_of<QuantizedForm{4, 32, true}>(AUTOGLM_QUANTIZED_NAMES("quantized_w4_32_mins")),
    kernels_of<QuantizedForm{4, 64, false}>(AUTOGLM_QUANTIZED_NAMES("quantized_w4_64")),
    kernels_of<QuantizedForm{4, 64, true}>(AUTOGLM_QUANTIZED_NAMES("quantized_w4_64_mins")),
    kernels_of<QuantizedForm{8, 16, false}>(AUTOGLM_QUANTIZED_NAMES("quantized_w8_16")),
    kernels_of<QuantizedForm{8, 16, true}>(AUTOGLM_QUANTIZED_NAMES("quantized_w8_16_mins")),
    kernels_of<QuantizedForm{8, 32, false}>(AUTOGLM_QUANTIZED_NAMES("quantized_w8_32")),
    kernels_of<QuantizedForm{8, 32, true}>(AUTOGLM_QUANTIZED_NAMES("quantized_w8_32_mins")),
};
#undef AUTOGLM_QUANTIZED_NAMES

constexpr bool fits_every_card() {
  for (const FormKernels& each : kKernels) {
    for (const size_t bytes : each.shared_bytes) {
      if (bytes > 99 << 10) return false;
    }
  }
  return true;
}
static_assert(fits_every_card());  // 99 KiB: a block's most on sm_86, sm_89 and sm_120

const FormKernels& kernels_for(const DeviceMatrix& w) {
  const int bits = code_bits(w.layout);
  const int scale_k = std::min<int>(w.group, bits == 4 ? 64 : 32);
  return *std::ranges::find_if(kKernels, [&](const FormKernels& each) {
    return each.form.bits == bits && each.form.scale_k == scale_k &&
           each.form.has_mins == (w.mins != nullptr);
  });
}

size_t workspace_bytes(const QuantizedProblem& problem, int tile) {
  const QuantizedTile& shape = kQuantizedTiles[tile];
  if (problem.num_rows == 0 || problem.n == 0 || !is_striped(problem, shape)) return 0;
  const StripePlan plan = stripes_of(problem.n, problem.k);
  const int64_t partials = int64_t{max_row_tiles(problem, shape.tokens())} * plan.num_partials();
  return static_cast<size_t>(kQuantizedTicketBytes +
                             partials * kBandRows * shape.tokens() * int64_t{sizeof(float)});
}

// Rows of a row tile that are worth it, for experts that have two on the average: half of 8 rows idle cost
// less than reading the weights again.
int32_t wanted_tokens(const QuantizedProblem& problem) {
  if (problem.num_experts == 0) return problem.num_rows;
  const int64_t average = ceil_div(problem.num_rows, problem.num_experts);
  return static_cast<int32_t>(std::min<int64_t>(2 * average, problem.num_rows));
}

// Above, a tile of many rows costs an expert less than several of 16.
constexpr int32_t kManyRowsOfExpert = 48;

constexpr int kManyRowsTile = kNumQuantizedTiles - 1;
constexpr int kLargestStripedTile = kManyRowsTile - 1;
constexpr int32_t kMaxStripedRows = 256;

}  // namespace

int choose_quantized_tile(const QuantizedProblem& problem) {
  const int32_t tokens = wanted_tokens(problem);
  int most = 0;  // of the tiles that this product may take and that are no larger than wanted
  for (int tile = 0; tile < kManyRowsTile; ++tile) {
    if (!may_take(problem, kQuantizedTiles[tile])) continue;
    if (tokens <= kQuantizedTiles[tile].tokens()) return tile;
    most = tile;
  }
  if (problem.num_experts != 0) return tokens <= 2 * kManyRowsOfExpert ? most : kManyRowsTile;
  const QuantizedTile& many = kQuantizedTiles[kManyRowsTile];
  const int64_t blocks =
      ceil_div(problem.num_rows, many.tokens()) * ceil_div(problem.n, many.row_warps * kPanelRows);
  const bool is_narrow = problem.num_rows <= kMaxStripedRows && blocks < kFewBlocks / 2;
  return is_narrow && may_take(problem, kQuantizedTiles[kLargestStripedTile]) ? kLargestStripedTile
                                                                              : kManyRowsTile;
}

LaunchShape quantized_launch(const ProductArgs& args, int tile) {
  if (args.num_rows == 0 || args.w.n == 0) return {};
  const QuantizedProblem problem = problem_of(args);
  const QuantizedTile& shape = kQuantizedTiles[tile];
  const FormKernels& kernels = kernels_for(args.w);
  const int64_t blocks = is_striped(problem, shape) ? stripes_of(problem.n, problem.k).num_stripes
                                                    : ceil_div(problem.n, shape.row_warps * kPanelRows);
  return {.kernel = kernels.names[tile],
          .grid_x = static_cast<unsigned>(blocks),
          .grid_y = static_cast<unsigned>(max_row_tiles(problem, shape.tokens())),
          .num_threads = kQuantizedThreads,
          .shared_bytes = kernels.shared_bytes[tile]};
}

LaunchShape quantized_launch(const ProductArgs& args) {
  return quantized_launch(args, choose_quantized_tile(problem_of(args)));
}

size_t quantized_workspace_bytes(const ProductArgs& args, int tile) {
  return workspace_bytes(problem_of(args), tile);
}

size_t quantized_workspace_bytes(const ProductArgs& args) {
  QuantizedProblem problem = problem_of(args);
  // Row tiles are not more than tickets where stripes are taken, and none has more rows than this.
  constexpr int32_t kMaxRows = kQuantizedTickets * kQuantizedTiles[kLargestStripedTile].tokens();
  size_t most = 0;
  for (int32_t rows = std::min(problem.num_rows, kMaxRows); rows > 0; --rows) {
    problem.num_rows = rows;
    most = std::max(most, workspace_bytes(problem, choose_quantized_tile(problem)));
  }
  return most;
}

}  // namespace autoglm::cuda
