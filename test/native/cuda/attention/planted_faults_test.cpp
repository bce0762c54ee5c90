// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (planted.cmake), and the comparison that the kernel passes must fail for the copy; or
// ThreadSanitizer must report a race in a process of its own.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include <cstdlib>

#include "attention_fixture.h"

namespace autoglm::test {
namespace {

struct Fault {
  const char* kernel;
  bool is_decode;
  cuda::KvType kv_type = cuda::KvType::bf16;
  int64_t value_dim = 64;
};

constexpr Fault kMissingBarriers[] = {
    {"planted_no_barrier_for_scores", true},
    {"planted_no_barrier_for_keys", false},
    {"planted_no_barrier_for_values", false},
    {"planted_no_barrier_for_latents", false, cuda::KvType::bf16, 48},
};

// A prompt chunk after 350 keys, one after none, and 700 keys before tokens to decode; one key decides most
// rows.
double distance_with(const Fault& fault, const char* kernel, const emulator::Schedule& schedule) {
  Random random(7000);
  StepShape shape;
  shape.value_dim = fault.value_dim;
  shape.kv_type = fault.kv_type;
  shape.group = 4;
  shape.peak = 12;
  Step step;
  add_sequence(step, shape, random, 350, 12);
  add_sequence(step, shape, random, 0, 9);
  add_sequence(step, shape, random, 700, 2);
  finish_step(step, shape, random);
  KernelNames kernels;
  (fault.is_decode ? kernels.decode : kernels.prefill) = kernel;
  if (!attend(step, shape, schedule, kernels)) return INFINITY;
  return largest_distance(step, shape);
}

#if defined(__SANITIZE_THREAD__)

TEST(CudaPlantedFaults, ThreadSanitizerReportsAMissingBarrier) {
  for (const Fault& fault : kMissingBarriers) {
    EXPECT_EXIT(
        {
          distance_with(fault, fault.kernel, schedule_of(0));
          std::exit(0);
        },
        emulator::ends_with_a_report, "data race")
        << fault.kernel;
  }
}

#else

constexpr Fault kFaults[] = {
    {"planted_next_page", true},
    {"planted_wrong_lane", true},
    {"planted_not_transposed", false},
    {"planted_early_ticket", true},
    {"planted_key_too_many", false},
    {"planted_split_too_late", false},
    {"planted_odd_dims_first", true, cuda::KvType::int8},
    {"planted_scale_of_neighbour", false, cuda::KvType::fp8},
    {"planted_value_of_first_dims", true, cuda::KvType::bf16, 48},
};

void expect_to_show(const Fault& fault) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    EXPECT_LE(distance_with(fault, nullptr, schedule), kBf16Tolerance);
    EXPECT_GT(distance_with(fault, fault.kernel, schedule), kBf16Tolerance)
        << fault.kernel << ", order " << seed;
  }
}

TEST(CudaPlantedFaults, ShowInEverySchedule) {
  for (const Fault& fault : kMissingBarriers) expect_to_show(fault);
  for (const Fault& fault : kFaults) expect_to_show(fault);
}

#endif

}  // namespace
}  // namespace autoglm::test
#endif
