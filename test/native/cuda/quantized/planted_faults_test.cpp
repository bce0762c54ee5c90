// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (planted.cmake), and the comparison that the kernel passes must fail for the copy.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include "product_case.h"

namespace autoglm::test {
namespace {

constexpr const char* kFaults[] = {
    "planted_no_barrier_for_slabs",
    "planted_early_slab",
    "planted_early_band",
    "planted_ticket_left",
    "planted_scale_of_next_lane",
    "planted_min_of_other_token",
    "planted_beyond_k",
    "planted_nibbles_of_zero",
    "planted_wrong_piece",
};

// Two bands of three segments each, the second one not full; k that is no multiple of a slab; rows for a part
// of the tile.
double distance_with(const char* kernel, const emulator::Schedule& schedule) {
  Random random(10000);
  ProductCase test;
  test.weights = random_weights(random, {.group = 32, .has_mins = true}, 290, 1248);
  test.args.w = test.weights.matrix();
  test.args.in_stride = 1280;
  test.args.out_stride = 290;
  test.args.num_rows = 11;
  test.in = to_bf16s(random.normals(11 * 1280));
  for (int64_t i = 0; i < 11 * 1280; ++i) {
    if (i % 1280 >= 1248) test.in[i] = {0x7fff};
  }
  test.out.assign(11 * 290, NAN);
  compute_expected(test);
  try {
    const std::vector<float> found = run_case(test, schedule, kernel);
    return test.leaves_tickets ? relative_distance(found, test.expected) : INFINITY;
  } catch (const emulator::KernelFault&) {
    return INFINITY;
  }
}

TEST(CudaQuantizedPlantedFaults, ShowInEverySchedule) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    EXPECT_LE(distance_with(nullptr, schedule), kF32Tolerance);
    for (const char* fault : kFaults) {
      const double distance = distance_with(fault, schedule);
      EXPECT_FALSE(distance <= 10 * kF32Tolerance) << fault << ", order " << seed << ": " << distance;
    }
  }
}

}  // namespace
}  // namespace autoglm::test
#endif
