// Goal: the tests would notice the faults that kernels of this kind have. Method: each fault is planted in a
// copy of a kernel file (planted.cmake), and the comparison that the kernel passes must fail for the copy.
#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
#include <gtest/gtest.h>

#include "cuda/experts/combine.h"
#include "experts_fixture.h"

namespace autoglm::test {
namespace {

template <typename Args>
void launch_copy(cuda::LaunchShape shape, const char* fault, const Args& args,
                 const emulator::Schedule& schedule) {
  if (fault != nullptr) shape.kernel = fault;
  launch(shape, args, schedule);
}

// A comparison that the kernel passes.
using Check = bool (*)(const char* fault, const emulator::Schedule& schedule);

bool routes(const char* fault, const emulator::Schedule& schedule) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Random random(9000 + seed);
    RouteCase test;
    test.args.num_rows = 3;
    test.args.num_experts = test.args.logits_stride = 96;
    test.args.num_groups = 6;
    test.args.top_groups = 3;
    test.args.num_chosen = 8;
    for (int i = 0; i < 3 * 96; ++i) test.logits.push_back(static_cast<float>(random.below(12)) / 4);
    reset_outputs(test);
    launch_copy(route_launch(test.args), fault, test.args, schedule);
    for (int64_t row = 0; row < 3; ++row) {
      const ExpectedRoute expected = expected_route(test, row);
      if (!std::ranges::equal(expected.experts, std::span(test.experts).subspan(row * 8, 8))) return false;
      const std::vector<float> weights(test.weights.begin() + row * 8, test.weights.begin() + row * 8 + 8);
      if (!(relative_distance(weights, expected.weights) <= kF32Tolerance)) return false;
    }
  }
  return true;
}

bool routes_few(const char* fault, const emulator::Schedule& schedule) {
  Random random(9100);
  RouteCase test = make_route_case(random, 0);
  test.args.num_rows = 24;
  test.args.num_experts = test.args.logits_stride = 64;
  test.args.num_groups = test.args.top_groups = 1;
  test.args.num_chosen = 6;
  test.correction.clear();
  test.logits = random.normals(24 * 64);
  reset_outputs(test);
  std::ranges::fill(test.experts, 0);
  PairCase pairs;
  pairs.args.num_rows = pairs.num_valid = 24;
  pairs.args.num_experts = 64;
  pairs.args.num_chosen = 6;
  reset_outputs(pairs);
  pairs.args.experts = test.experts.data();
  const cuda::RouteFewArgs args{test.args, pairs.args};
  launch_copy(route_few_launch(args), fault, args, schedule);
  return has_right_pairs(pairs, test.experts.data());
}

bool orders_pairs(int64_t rows, const char* fault, const emulator::Schedule& schedule) {
  Random random(9200);
  PairCase test = make_pair_case(random, rows, 70, 5);
  test.num_valid = test.args.num_rows - 20;  // padding that names experts
  test.args.num_valid_rows = &test.num_valid;
  launch(count_pairs_launch(test.args), test.args, schedule);
  launch_copy(place_pairs_launch(test.args), fault, test.args, schedule);
  return has_right_pairs(test, test.experts.data());
}
bool orders_a_block(const char* fault, const emulator::Schedule& schedule) {
  return orders_pairs(220, fault, schedule);
}
bool orders_blocks(const char* fault, const emulator::Schedule& schedule) {
  return orders_pairs(700, fault, schedule);
}

bool combines(const char* fault, const emulator::Schedule& schedule) {
  const std::vector<int32_t> pairs = {0, 1, 2, 3, 4, 5};
  const std::vector<float> weights(6, 1.0f);
  const std::vector<float> in(6 * 8, 1.0f);
  std::vector<float> out(8, NAN);
  cuda::CombineArgs args;
  args.in = in.data();
  args.pair_of = pairs.data();
  args.weights = weights.data();
  args.out = out.data();
  args.num_rows = 1;
  args.num_cols = 8;
  args.num_chosen = 6;
  launch_copy(combine_launch(args), fault, args, schedule);
  return out == std::vector<float>(8, 6.0f);
}

struct Fault {
  const char* kernel;
  Check check;
  bool shows_in_ascending_order = true;  // not where warps read from lower ones alone
};

constexpr Fault kFaults[] = {
    {"planted_experts_no_barrier_for_groups", routes},
    {"planted_experts_last_of_equals", routes},
    {"planted_experts_best_of_group_alone", routes},
    {"planted_experts_own_lane_twice", routes},
    {"planted_experts_no_barrier_for_choices", routes_few},
    {"planted_experts_no_barrier_for_rows", orders_a_block},
    {"planted_experts_no_barrier_for_sums", orders_a_block, false},
    {"planted_experts_no_barrier_for_places", orders_a_block},
    {"planted_experts_one_row_earlier", orders_a_block},
    {"planted_experts_padding_counts", orders_a_block},
    {"planted_experts_chunk_too_few", orders_blocks},
    {"planted_experts_expert_too_few", combines},
};

bool passes(const Fault& fault, const char* kernel, const emulator::Schedule& schedule) {
  try {
    return fault.check(kernel, schedule);
  } catch (const emulator::KernelFault&) {
    return false;
  }
}

TEST(CudaPlantedFaults, ShowInEverySchedule) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const emulator::Schedule schedule = schedule_of(seed);
    for (const Fault& fault : kFaults) {
      EXPECT_TRUE(passes(fault, nullptr, schedule)) << "without " << fault.kernel << ", order " << seed;
      if (schedule.order == emulator::Order::warps_ascending && !fault.shows_in_ascending_order) continue;
      EXPECT_FALSE(passes(fault, fault.kernel, schedule)) << fault.kernel << ", order " << seed;
    }
  }
}

}  // namespace
}  // namespace autoglm::test
#endif
