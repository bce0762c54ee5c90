// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (planted.cmake), and the comparison that the kernel passes must fail for the copy.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include "product_fixture.h"

namespace autoglm::test {
namespace {

using cuda::GemmVariant;

// What the product must be for the fault to matter.
enum class Kind : uint8_t { dense, split, experts, gated, f16, large };

struct Fault {
  const char* kernel;
  GemmVariant variant;
  Kind kind;
  bool hides_in_descending_order = false;  // where the first warp alone reads what the others wrote
};

constexpr Fault kFaults[] = {
    {"planted_gemm_no_barrier_for_stages", GemmVariant::tile_32x64, Kind::dense},
    {"planted_gemm_no_barrier_at_start", GemmVariant::tile_16x64, Kind::dense},
    {"planted_gemm_no_barrier_in_warp", GemmVariant::tile_16x64, Kind::dense},
    {"planted_gemm_too_few_copies_waited_for", GemmVariant::tile_64x128, Kind::dense},
    {"planted_gemm_wrong_matrix", GemmVariant::tile_128x128, Kind::dense},
    {"planted_gemm_k_too_far", GemmVariant::tile_128x256, Kind::dense},
    {"planted_gemm_early_ticket", GemmVariant::tile_16x64, Kind::split},
    {"planted_gemm_ticket_left", GemmVariant::tile_32x64, Kind::split},
    {"planted_gemm_next_expert", GemmVariant::tile_16x64, Kind::experts},
    {"planted_gemm_gate_as_up", GemmVariant::tile_64x128, Kind::gated},
    {"planted_gemm_no_saturation", GemmVariant::tile_16x64, Kind::large},
    {"planted_gemm_halves_swapped", GemmVariant::tile_64x128, Kind::f16},
    {"planted_gemm_wrong_fragment", GemmVariant::tile_128x128, Kind::f16},
    {"planted_gemm_wrong_element", GemmVariant::tile_128x256, Kind::f16},
    {"planted_gemm_no_barrier_for_sums", GemmVariant::gemv_4, Kind::dense, true},
    {"planted_gemm_chunk_left_out", GemmVariant::gemv_4, Kind::dense},
};

ProductShape shape_of(const Fault& fault) {
  ProductShape shape;
  shape.n = 96;
  shape.k = fault.kind == Kind::split ? 1608 : 456;
  shape.num_rows = fault.variant == GemmVariant::gemv_4 ? 4 : 13;
  if (fault.kind == Kind::experts) shape.pairs_per_expert = {2, 0, 8, 3};
  if (fault.kind == Kind::gated) shape.epilogue = cuda::Epilogue::gated;
  if (fault.kind == Kind::f16 || fault.kind == Kind::large) shape.layout = cuda::DeviceLayout::f16;
  if (fault.kind == Kind::large) {
    shape.largest_input = 1e6f;
    shape.input_limit = 65504;
  }
  return shape;
}

double distance_with(const Fault& fault, bool is_planted, const emulator::Schedule& schedule) {
  Random random(9000);
  ProductCase test = make_product(shape_of(fault), random);
  try {
    if (!multiply(test, fault.variant, schedule, is_planted ? fault.kernel : nullptr)) return INFINITY;
  } catch (const emulator::KernelFault&) {
    return INFINITY;
  }
  return largest_distance(test);
}

TEST(CudaGemmPlantedFaults, ShowInEveryScheduleThatCanShowThem) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    for (const Fault& fault : kFaults) {
      EXPECT_LE(distance_with(fault, false, schedule), kF32Tolerance) << fault.kernel;
      if (fault.hides_in_descending_order && schedule.order == emulator::Order::warps_descending) continue;
      EXPECT_GT(distance_with(fault, true, schedule), kF32Tolerance) << fault.kernel << ", order " << seed;
    }
  }
}

}  // namespace
}  // namespace autoglm::test
#endif
