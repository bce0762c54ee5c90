// rope angles: cos_sin[r] = factor * {cos(positions[r] * frequencies[i])..., sin(...)...}, of the row's table
// Needs:    |angle| < 2^31.
// Rounding: the angle once, in double, as on the CPU; cosine and sine to 1e-15; then once to float.
// Cost:     4 bytes and some 40 operations of double per element, once for all layers.
// Twin:     compute_rope_angles in ops/kv_append.cpp.
//
// Not the library's cos and sin: their reduction of huge angles needs a stack.
#include "cuda/device/ptx.cuh"
#include "cuda/rows/rope_angles.h"

namespace autoglm::cuda {
namespace {

constexpr int kThreads = 128;

// pi / 2 = kHalfPi + kHalfPiRest to 2^-107: quarters of a turn up to 2^31 leave an error below 1e-22.
constexpr double kTwoOverPi = 0.63661977236758134308;
constexpr double kHalfPi = 0x1.921fb54442d18p+0;
constexpr double kHalfPiRest = 0x1.1a62633145c07p-54;

struct CosSin {
  double cosine;
  double sine;
};

// Taylor's series within +-pi / 4, where their next terms are below 1e-16.
__device__ CosSin near_zero(double angle) {
  const double square = angle * angle;
  double cosine = 1;
  double sine = 1;
#pragma unroll
  for (int i = 16; i > 0; i -= 2) {
    cosine = fma(square * (-1.0 / (i * (i - 1))), cosine, 1.0);
    sine = fma(square * (-1.0 / (i * (i + 1))), sine, 1.0);
  }
  return {cosine, sine * angle};
}

__device__ CosSin cosine_and_sine(double angle) {
  const double quarters = rint(angle * kTwoOverPi);
  const double rest = fma(-quarters, kHalfPiRest, fma(-quarters, kHalfPi, angle));
  const CosSin of_rest = near_zero(rest);
  const int64_t turned = static_cast<int64_t>(quarters) & 3;
  const bool is_swapped = turned % 2 == 1;
  const double cosine = is_swapped ? of_rest.sine : of_rest.cosine;
  const double sine = is_swapped ? of_rest.cosine : of_rest.sine;
  return {turned == 1 || turned == 2 ? -cosine : cosine, turned >= 2 ? -sine : sine};
}

// One thread per pair of a row.
__device__ void compute_pair(const RopeAnglesArgs& args) {
  const int64_t index = int64_t{block_x()} * kThreads + thread_x();
  const int64_t row = index / args.num_pairs;
  if (row >= args.num_rows) return;
  const auto pair = static_cast<int>(index % args.num_pairs);
  const int64_t table = args.tables == nullptr ? 0 : args.tables[row];
  const double angle = args.positions[row] * args.frequencies[table * args.num_pairs + pair];
  const CosSin result = cosine_and_sine(angle);
  const double factor = args.attention_factors[table];
  float* out = args.cos_sin + row * 2 * args.num_pairs + pair;
  out[0] = static_cast<float>(factor * result.cosine);
  out[args.num_pairs] = static_cast<float>(factor * result.sine);
}

}  // namespace
}  // namespace autoglm::cuda

extern "C" __global__ void __launch_bounds__(autoglm::cuda::kThreads)
    rope_angles(const __grid_constant__ autoglm::cuda::RopeAnglesArgs args) {
  autoglm::cuda::compute_pair(args);
}
