// Runs CUDA kernels on the host, one thread block after another, each thread of a block on its own fiber.
// A thread runs until it waits for others: at a barrier, or in an instruction of its whole warp. Which one
// goes on then is the schedule's choice, so that code that lacks a barrier meets an order that shows it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"

namespace autoglm::emulator {

inline constexpr int kWarpSize = 32;

// warps_*: each warp alone until all its threads wait at a barrier. Lockstep would hide a missing one.
enum class Order : uint8_t { warps_ascending, warps_descending, random };

struct Schedule {
  Order order = Order::warps_ascending;
  uint64_t seed = 0;  // of a random order
};

struct Grid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

struct Launch {
  Grid grid;
  unsigned num_threads = kWarpSize;
  size_t shared_bytes = 0;
};

// What a kernel did that hardware would not forgive: a barrier that some threads never reach, lanes that part
// ways at an instruction of the warp, copies left unfinished, an address off its alignment.
class KernelFault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Calls `kernel` once per thread of every block. Blocks run in an order that the schedule chooses, too.
void run_kernel(const Launch& launch, const Schedule& schedule, const std::function<void()>& kernel);

// What follows is called inside kernels, by the device header.

struct ThreadPosition {
  unsigned thread = 0;
  Grid block;
  Grid grid;
  unsigned num_threads = 0;
};

ThreadPosition position();
std::byte* shared_memory(size_t expected_bytes);
[[noreturn]] void fail(std::string what);

// `id` 0 waits for the whole block, others for `num_threads` threads.
void wait_at_barrier(int id, unsigned num_threads);

// Runs `combine` once, in the lane that arrives last, over the arguments of all 32 lanes; returns when it has
// run. `name` must be the same in every lane.
using Combine = void (*)(void* const* lane_arguments);
void run_in_warp(const char* name, void* lane_arguments, Combine combine);

// An asynchronous copy lands when the thread waits for its group; until then the target reads as NaN.
void begin_copy(void* target, const void* source, size_t num_bytes, size_t num_valid);
void close_copy_group();
void finish_copies(size_t num_groups_left);

}  // namespace autoglm::emulator
