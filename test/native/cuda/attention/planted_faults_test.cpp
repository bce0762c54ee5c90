// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (CMakeLists.txt), and the comparison that the kernel passes must fail for the copy.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include "attention_fixture.h"

namespace autoglm::test {
namespace {

struct Fault {
  const char* kernel;
  bool is_decode;
};

constexpr Fault kFaults[] = {
    {"planted_no_barrier_for_scores", true},
    {"planted_no_barrier_for_stages", false},
    {"planted_next_page", true},
    {"planted_wrong_lane", true},
    {"planted_not_transposed", false},
    {"planted_early_ticket", true},
    {"planted_key_too_many", false},
};

// A prompt chunk after 150 keys, one after none, and 700 keys before tokens to decode; one key decides most
// rows.
double distance_with(const Fault* fault, const emulator::Schedule& schedule) {
  Random random(7000);
  StepShape shape;
  shape.group = 4;
  shape.peak = 12;
  Step step;
  add_sequence(step, shape, random, 150, 12);
  add_sequence(step, shape, random, 0, 9);
  add_sequence(step, shape, random, 700, 2);
  finish_step(step, shape, random);
  KernelNames kernels;
  if (fault != nullptr) (fault->is_decode ? kernels.decode : kernels.prefill) = fault->kernel;
  try {
    if (!attend(step, shape, schedule, kernels)) return INFINITY;
  } catch (const emulator::KernelFault&) {
    return INFINITY;
  }
  return largest_distance(step, shape);
}

TEST(CudaPlantedFaults, ShowInEverySchedule) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    EXPECT_LE(distance_with(nullptr, schedule), kBf16Tolerance);
    for (const Fault& fault : kFaults) {
      EXPECT_GT(distance_with(&fault, schedule), kBf16Tolerance) << fault.kernel << ", order " << seed;
    }
  }
}

}  // namespace
}  // namespace autoglm::test
#endif
