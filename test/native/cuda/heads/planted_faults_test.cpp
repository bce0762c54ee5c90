// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (planted.cmake), and the comparison that the kernel passes must fail for the copy.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include "heads_fixture.h"

namespace autoglm::test {
namespace {

double distance_with(const std::string& kernel, bool is_few, bool is_f32_in,
                     const emulator::Schedule& schedule) {
  Random random(7000);
  HeadsCase test({.rows = is_few ? 20 : 70, .heads = 3, .n = 64, .k = 320, .is_f32_in = is_f32_in}, random);
  try {
    return test.largest_distance(test.run(schedule, kernel.empty() ? nullptr : kernel.c_str()));
  } catch (const emulator::KernelFault&) {
    return INFINITY;
  }
}

TEST(CudaPlantedFaults, ShowInEverySchedule) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    for (const bool is_few : {false, true}) {
      for (const bool is_f32_in : {false, true}) {
        const std::string kind = std::string(is_few ? "few" : "many") + (is_f32_in ? "_f32" : "");
        EXPECT_LE(distance_with("", is_few, is_f32_in, schedule), kBf16Tolerance) << kind;
        for (const char* fault : {"no_barrier", "no_wait", "wrong_lane", "k_too_few", "other_head"}) {
          const std::string kernel = std::string("planted_heads_") + fault + "_" + kind;
          EXPECT_GT(distance_with(kernel, is_few, is_f32_in, schedule), kBf16Tolerance)
              << kernel << ", order " << seed;
        }
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::test
#endif
