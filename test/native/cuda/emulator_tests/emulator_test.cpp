// The emulator itself: what it promises about order, memory and fragments, and that planted faults show.
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "cuda/device/ptx.cuh"
#include "emulator/fragment_lanes.h"
#include "fragment_tables.h"
#include "random_values.h"

namespace autoglm::emulator {
namespace {

using namespace cuda;

constexpr Order kOrders[] = {Order::warps_ascending, Order::warps_descending, Order::random};

struct Reversal {
  int32_t values[128];
};

// Reverses the block's numbers through shared memory.
int32_t reversed(bool has_barrier) {
  auto& storage = shared_storage<Reversal>();
  storage.values[thread_x()] = thread_x();
  if (has_barrier) sync_threads();
  return storage.values[127 - thread_x()];
}

int num_wrong(Schedule schedule, bool has_barrier) {
  std::vector<int32_t> out(128);
  run_kernel({{}, 128, sizeof(Reversal)}, schedule,
             [&] { out[static_cast<size_t>(thread_x())] = reversed(has_barrier); });
  int wrong = 0;
  for (int i = 0; i < 128; ++i) wrong += out[static_cast<size_t>(i)] != 127 - i;
  return wrong;
}

#if !defined(__SANITIZE_THREAD__)  // which reports the race itself, and ends the program
TEST(Emulator, AMissingBarrierShowsInEveryOrder) {
  for (const Order order : kOrders) {
    EXPECT_EQ(num_wrong({order, 5}, true), 0);
    EXPECT_GT(num_wrong({order, 5}, false), 0);
  }
}

// A barrier at the end of a loop is missing: a warp that runs ahead overwrites what others have yet to read.
TEST(Emulator, AMissingBarrierBeforeTheNextWriteShows) {
  for (const Order order : kOrders) {
    int wrong = 0;
    run_kernel({{}, 64, sizeof(int32_t)}, {order, 3}, [&] {
      auto& shared = shared_storage<int32_t>();
      for (int turn = 0; turn < 4; ++turn) {
        if (thread_x() == (order == Order::warps_descending ? 63 : 0)) shared = turn;
        sync_threads();
        if (shared != turn) ++wrong;
      }
    });
    EXPECT_GT(wrong, 0);
  }
}
#else
// Goal: no order of the block's threads hides a race, whatever waits come before and after it.
void race_between_barriers() {
  run_kernel({{}, 128, sizeof(Reversal)}, {Order::warps_ascending, 0}, [] {
    sync_threads();
    reversed(false);
    sync_threads();
  });
}
// A lane reads what its neighbour writes after a shuffle, before the next one.
void race_within_a_warp() {
  run_kernel({{}, 32, sizeof(Reversal)}, {Order::warps_ascending, 0}, [] {
    auto& storage = shared_storage<Reversal>();
    storage.values[thread_x()] = shuffle_xor(thread_x(), 1);
    const int32_t read = storage.values[31 - thread_x()];
    shuffle_xor(read, 1);
  });
}

#define EXPECT_RACE(statement) \
  EXPECT_EXIT(                 \
      {                        \
        statement;             \
        std::exit(0);          \
      },                       \
      ends_with_a_report, "data race")

TEST(Emulator, ThreadSanitizerAcceptsBarriersAndReportsTheirAbsence) {
  for (const Order order : kOrders) {
    EXPECT_EQ(num_wrong({order, 5}, true), 0);
    EXPECT_RACE(num_wrong({order, 5}, false));
  }
  EXPECT_RACE(race_between_barriers());
  EXPECT_RACE(race_within_a_warp());
}
#endif

TEST(Emulator, ABarrierThatSomeThreadsNeverReachIsAFault) {
  const auto part = [] {
    if (thread_x() < 32) sync_threads();
  };
  EXPECT_THROW(run_kernel({{}, 64, 0}, {}, part), KernelFault);
}

TEST(Emulator, LanesThatPartWaysAreAFault) {
  const auto diverging = [] {
    if (thread_x() < 16) {
      sync_warp();
    } else {
      ballot(true);
    }
  };
  EXPECT_THROW(run_kernel({{}, 32, 0}, {}, diverging), KernelFault);
}

TEST(Emulator, NamedBarriersHoldTheirThreadsOnly) {
  for (const Order order : kOrders) {
    std::vector<int32_t> seen(128, -1);
    run_kernel({{}, 128, sizeof(Reversal)}, {order, 9}, [&] {
      auto& storage = shared_storage<Reversal>();
      const int half = thread_x() / 64;
      storage.values[thread_x()] = thread_x();
      sync_some(1 + half, 64);
      seen[static_cast<size_t>(thread_x())] = storage.values[half * 64 + 63 - thread_x() % 64];
    });
    for (int i = 0; i < 128; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i / 64 * 64 + 63 - i % 64);
  }
}

TEST(Emulator, SharedMemoryStartsAsNaN) {
  float first = 0;
  run_kernel({{}, 32, sizeof(float)}, {}, [&] {
    if (thread_x() == 0) first = shared_storage<float>();
  });
  EXPECT_TRUE(std::isnan(first));
}

TEST(Emulator, SharedStorageOfAnotherSizeThanLaunchedIsAFault) {
  EXPECT_THROW(run_kernel({{}, 32, 8}, {}, [] { shared_storage<float>() = 0; }), KernelFault);
}

struct alignas(16) Chunk {
  float values[4];
};

TEST(Emulator, ACopyLandsWhenItsGroupIsWaitedForAndNotBefore) {
  const Chunk source[2] = {{{1, 2, 3, 4}}, {{5, 6, 7, 8}}};
  float before = 0;
  float second_before = 0;
  float first = 0;
  float zero = 1;
  run_kernel({{}, 1, sizeof(Chunk[2])}, {}, [&] {
    auto& chunks = shared_storage<Chunk[2]>();
    copy_async(&chunks[0], &source[0], true);
    commit_copies();
    copy_async(&chunks[1], &source[1], false);
    commit_copies();
    before = chunks[0].values[3];
    wait_for_copies<1>();
    first = chunks[0].values[3];
    second_before = chunks[1].values[0];
    wait_for_copies<0>();
    zero = chunks[1].values[0];
  });
  EXPECT_TRUE(std::isnan(before));
  EXPECT_TRUE(std::isnan(second_before));
  EXPECT_EQ(first, 4);
  EXPECT_EQ(zero, 0) << "a copy that is not valid writes zeros";
}

TEST(Emulator, CopiesThatNobodyWaitsForAndCopiesOffTheirAlignmentAreFaults) {
  const Chunk source = {};
  EXPECT_THROW(run_kernel({{}, 1, sizeof(Chunk)}, {},
                          [&] {
                            copy_async(&shared_storage<Chunk>(), &source, true);
                            commit_copies();
                          }),
               KernelFault);
  EXPECT_THROW(run_kernel({{}, 1, sizeof(Chunk[2])}, {},
                          [&] { copy_async(&shared_storage<Chunk[2]>()[0].values[1], &source, true); }),
               KernelFault);
}

TEST(Emulator, ShufflesAndVotesReachEveryLane) {
  std::vector<int> xored(32);
  std::vector<uint32_t> votes(32);
  run_kernel({{}, 32, 0}, {Order::random, 4}, [&] {
    const auto lane = static_cast<size_t>(thread_x());
    xored[lane] = shuffle_xor(thread_x() * 10, 5);
    votes[lane] = ballot(thread_x() % 3 == 0);
  });
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(xored[static_cast<size_t>(i)], (i ^ 5) * 10);
    EXPECT_EQ(votes[static_cast<size_t>(i)], 0x49249249u);
  }
}

TEST(Emulator, TheLastTicketIsTakenOnceWhateverTheOrderOfBlocks) {
  for (const Order order : kOrders) {
    uint32_t counter = 0;
    int last = 0;
    run_kernel({{7}, 32, 0}, {order, 8}, [&] {
      if (thread_x() == 0 && take_ticket(&counter) == 6) ++last;
    });
    EXPECT_EQ(last, 1);
    EXPECT_EQ(counter, 7u);
  }
}

// The tables are the figures of the PTX ISA typed off: thread and element per row and column.
TEST(Fragments, LieWhereThePtxIsaPutsThem) {
  int places[16][16] = {};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const Place at = place_in_a<2>(lane, i);
      EXPECT_EQ(kA16Threads[at.row][at.col / 2], lane) << "a" << i;
      EXPECT_EQ(kA16Elements[at.row / 8][at.col / 8], i / 2 * 2);
      EXPECT_EQ(at.col % 2, i % 2);
      ++places[at.row][at.col];
    }
    for (int i = 0; i < 4; ++i) {
      const Place b = place_in_b<2>(lane, i);
      EXPECT_EQ(kB16Threads[b.row / 2 % 4][b.col], lane) << "b" << i;
      EXPECT_EQ(b.row / 8 * 2 + b.row % 2, i);
      const Place c = place_in_sum(lane, i);
      EXPECT_EQ(kSumThreads[c.row % 8][c.col / 2], lane) << "c" << i;
      EXPECT_EQ(c.row / 8 * 2 + c.col % 2, i);
    }
    for (int i = 0; i < 16; ++i) {
      const Place at = place_in_a<4>(lane, i);
      EXPECT_EQ(kSumThreads[at.row % 8][at.col / 4 % 4], lane) << "8-bit a" << i;
      EXPECT_EQ(at.col / 16 * 8 + at.row / 8 * 4 + at.col % 4, i);
    }
    for (int i = 0; i < 8; ++i) {
      const Place at = place_in_b<4>(lane, i);
      EXPECT_EQ(kB16Threads[at.row / 4 % 4][at.col], lane) << "8-bit b" << i;
      EXPECT_EQ(at.row / 16 * 4 + at.row % 4, i);
    }
  }
  for (const auto& row : places) {
    for (const int count : row) EXPECT_EQ(count, 1);
  }
}

struct alignas(16) Matrices {
  uint16_t values[4][8][8];
};

TEST(Fragments, MatrixLoadsGiveEachLaneItsElements) {
  for (const bool is_transposed : {false, true}) {
    std::vector<uint32_t> words(32 * 4);
    run_kernel({{}, 32, sizeof(Matrices)}, {Order::random, 2}, [&] {
      auto& shared = shared_storage<Matrices>();
      const int lane = thread_x();
      for (int col = 0; col < 8; ++col) {
        shared.values[lane / 8][lane % 8][col] = static_cast<uint16_t>(lane / 8 * 64 + lane % 8 * 8 + col);
      }
      sync_warp();
      uint32_t mine[4];
      if (is_transposed) {
        load_matrices_transposed(mine, shared.values[lane / 8][lane % 8]);
      } else {
        load_matrices(mine, shared.values[lane / 8][lane % 8]);
      }
      for (int i = 0; i < 4; ++i) words[static_cast<size_t>(lane * 4 + i)] = mine[i];
    });
    for (uint32_t lane = 0; lane < 32; ++lane) {
      for (uint32_t matrix = 0; matrix < 4; ++matrix) {
        for (uint32_t i = 0; i < 2; ++i) {
          const uint32_t line = lane / 4;
          const uint32_t place = lane % 4 * 2 + i;
          const uint32_t expected = matrix * 64 + (is_transposed ? place * 8 + line : line * 8 + place);
          EXPECT_EQ(words[lane * 4 + matrix] >> 16 * i & 0xffff, expected);
        }
      }
    }
  }
}

// Products of whole matrices, laid out by the tables rather than by the functions under test.
TEST(Fragments, ProductsAreThoseOfTheMatrices) {
  test::Random random(3);
  int8_t a[16][32];
  int8_t b[32][8];
  for (auto& row : a) {
    for (int8_t& each : row) each = static_cast<int8_t>(random.below(256) - 128);
  }
  for (auto& row : b) {
    for (int8_t& each : row) each = static_cast<int8_t>(random.below(256) - 128);
  }
  const auto bf16_of = [](int8_t value) { return round_to_bf16(value); };
  for (const bool is_float : {false, true}) {
    const int depth = is_float ? 16 : 32;
    const int per_word = is_float ? 2 : 4;
    std::vector<double> out(16 * 8);
    run_kernel({{}, 32, 0}, {}, [&] {
      const int lane = thread_x();
      uint32_t a_words[4] = {};
      uint32_t b_words[2] = {};
      for (int row = 0; row < 16; ++row) {
        for (int col = 0; col < depth; ++col) {
          if (kSumThreads[row % 8][col / per_word % 4] != lane) continue;
          const int word = row / 8 + col / (depth / 2) * 2;
          const int shift = col % per_word * (32 / per_word);
          a_words[word] |= (is_float ? bf16_of(a[row][col]) : static_cast<uint8_t>(a[row][col])) << shift;
        }
      }
      for (int row = 0; row < depth; ++row) {
        for (int col = 0; col < 8; ++col) {
          if (kB16Threads[row / per_word % 4][col] != lane) continue;
          const int shift = row % per_word * (32 / per_word);
          b_words[row / (depth / 2)] |= (is_float ? bf16_of(b[row][col]) : static_cast<uint8_t>(b[row][col]))
                                        << shift;
        }
      }
      float sum[4] = {1, 1, 1, 1};
      int32_t whole[4] = {1, 1, 1, 1};
      if (is_float) {
        multiply_bf16(sum, a_words, b_words[0], b_words[1]);
      } else {
        multiply_s8(whole, a_words, b_words[0], b_words[1]);
      }
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8;
        const int col = lane % 4 * 2 + i % 2;
        out[static_cast<size_t>(row * 8 + col)] = is_float ? sum[i] : whole[i];
      }
    });
    for (int row = 0; row < 16; ++row) {
      for (int col = 0; col < 8; ++col) {
        int expected = 1;
        for (int k = 0; k < depth; ++k) expected += a[row][k] * b[k][col];
        EXPECT_EQ(out[static_cast<size_t>(row * 8 + col)], expected);
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::emulator
