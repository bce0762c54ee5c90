#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <ctime>

#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"

namespace autoglm::test {
namespace {

TEST(ThreadPool, RunsEachChunkOnceOnAWorkerOfItsOwn) {
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (const int64_t num_chunks : {0, 1, 2, 7, 1000}) {
      std::vector<int> counts(num_chunks, 0);
      std::vector<std::atomic<int>> busy(num_threads);
      std::atomic<bool> is_shared = false;
      pool.run(num_chunks, [&](int64_t chunk, int worker) {
        if (busy[worker].fetch_add(1) != 0) is_shared = true;
        ++counts[chunk];
        busy[worker].fetch_sub(1);
      });
      EXPECT_EQ(counts, std::vector<int>(num_chunks, 1)) << num_threads << " threads";
      EXPECT_FALSE(is_shared) << "two chunks ran at once under one worker number";
    }
  }
}

// Goal: threads beyond those in use take nothing, and come back when they are wanted; a pool ends whatever is
// in use. Method: stages long enough for every thread to come by, with numbers of threads that go up and
// down.
TEST(ThreadPool, UsesAsManyThreadsAsItIsTold) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  for (const int num_used : {4, 1, 3, 2, 1, 4, 2}) {
    pool.use_threads(num_used);
    std::vector<std::atomic<int>> counts(kThreads);
    for (int stage = 0; stage < 50; ++stage) {
      pool.run(40, [&](int64_t, int worker) { counts[worker].fetch_add(1); });
    }
    int total = 0;
    for (int worker = 0; worker < kThreads; ++worker) {
      total += counts[worker].load();
      if (worker >= num_used) {
        EXPECT_EQ(counts[worker].load(), 0) << worker << " of " << num_used;
      }
    }
    EXPECT_EQ(total, 50 * 40);
  }
  // Every thread works again: the stage ends only when all are in it.
  pool.use_threads(kThreads);
  std::atomic<int> num_arrived = 0;
  pool.run(kThreads, [&](int64_t, int) {
    num_arrived.fetch_add(1);
    while (num_arrived.load() < kThreads) std::this_thread::yield();
  });
  pool.use_threads(1);
}

// Goal: a worker that is late with the last ticket of a short stage takes nothing of the long stage after it.
// Method: stages of changing lengths, back to back; a chunk taken twice shows in the count, or hangs the
// pool.
TEST(ThreadPool, NeverTakesAChunkOfTheNextStageWithATicketOfTheLast) {
  ThreadPool pool(3);
  // On a busy machine a stage may wait a time slice for a descheduled thread: stop early there.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (int stage = 0; stage < 200'000 && std::chrono::steady_clock::now() < deadline; ++stage) {
    const int64_t num_chunks = stage % 2 == 0 ? 2 : 2 + stage % 11;
    std::atomic<int64_t> count = 0;
    pool.run(num_chunks, [&](int64_t, int) { count.fetch_add(1); });
    ASSERT_EQ(count.load(), num_chunks) << "stage " << stage;
  }
}

// Goal: no stage is lost or mixed up with its neighbour, also when workers fall asleep between stages.
// Method: many short stages that each read what the one before wrote without any lock; a data race is the
// sanitizer's business, a lost chunk shows in the sum.
TEST(ThreadPool, EachStageSeesAllThatTheOneBeforeWrote) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64, 0);
  std::vector<int64_t> next(64, 0);
  for (int stage = 1; stage <= 3000; ++stage) {
    pool.run(64, [&](int64_t chunk, int) { next[chunk] = values[(chunk + 1) % 64] + 1; });
    pool.run(64, [&](int64_t chunk, int) { values[chunk] = next[chunk]; });
    if (stage % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), 64 * 3000);
}

TEST(ThreadPool, RethrowsTheFirstExceptionAndGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> num_run = 0;
    try {
      pool.run(100, [&](int64_t chunk, int) {
        ++num_run;
        if (chunk % 10 == 3) throw std::runtime_error("chunk");
      });
      ADD_FAILURE() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "chunk");
    }
    EXPECT_LE(num_run, 100);
    std::atomic<int> num_after = 0;
    pool.run(10, [&](int64_t, int) { ++num_after; });
    EXPECT_EQ(num_after, 10);
  }
}

// Goal: a queue of stages keeps its order, whoever carries it out, also when it is longer than the pool's
// ring.
TEST(ThreadPool, CarriesOutQueuedStagesInOrder) {
  for (const int num_threads : {1, 2, 4}) {
    ThreadPool pool(num_threads);
    std::vector<int64_t> values(16, 0);
    std::vector<int64_t> next(16, 0);
    for (int stage = 0; stage < 2000; ++stage) {
      pool.enqueue(16, [&values, &next](int64_t chunk, int) { next[chunk] = values[(chunk + 1) % 16] + 1; });
      pool.enqueue(16, [&values, &next](int64_t chunk, int) { values[chunk] = next[chunk]; });
    }
    pool.finish();
    EXPECT_EQ(values, std::vector<int64_t>(16, 2000)) << num_threads << " threads";
  }
}

TEST(ThreadPool, DropsTheStagesAfterAFailureAndWhenCancelled) {
  ThreadPool pool(2);
  std::atomic<int> num_after = 0;
  pool.enqueue(4, [](int64_t chunk, int) {
    if (chunk == 2) throw std::runtime_error("chunk");
  });
  for (int i = 0; i < 3; ++i) pool.enqueue(4, [&num_after](int64_t, int) { ++num_after; });
  EXPECT_THROW(pool.finish(), std::runtime_error);
  EXPECT_EQ(num_after, 0);
  const std::atomic<bool> is_cancelled = true;
  pool.set_cancellation(&is_cancelled);
  pool.run(4, [&num_after](int64_t, int) { ++num_after; });
  EXPECT_EQ(num_after, 0);
  pool.set_cancellation(nullptr);
  pool.run(4, [&num_after](int64_t, int) { ++num_after; });
  EXPECT_EQ(num_after, 4);
}

TEST(ThreadPool, DropRunsNothingMoreAndForgetsFailures) {
  for (const bool has_failure : {false, true}) {
    ThreadPool pool(2);
    std::atomic<bool> is_held = true;
    std::atomic<int> num_after = 0;
    pool.enqueue(2, [&is_held, has_failure](int64_t, int) {
      if (has_failure) throw std::runtime_error("chunk");
      while (is_held.load()) std::this_thread::yield();
    });
    for (int i = 0; i < 3; ++i) pool.enqueue(4, [&num_after](int64_t, int) { ++num_after; });
    std::thread release([&is_held] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      is_held.store(false);
    });
    pool.drop();
    EXPECT_EQ(num_after, 0);
    release.join();
    pool.run(4, [&num_after](int64_t, int) { ++num_after; });
    EXPECT_EQ(num_after, 4) << "after a drop the pool is as new";
  }
}

// A late chunk waits so long for a test to let it go on, in case the pool waits for the chunk: then the test
// fails and does not hang.
constexpr std::chrono::seconds kLongestHold{60};

void wait_while(const std::atomic<bool>& is_held) {
  const auto deadline = std::chrono::steady_clock::now() + kLongestHold;
  while (is_held.load() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
}

// A chunk that stands still until the test lets it go on, as if its thread had lost its core.
struct StandingStill {
  std::atomic<int>* num_computed;
  std::atomic<int>* num_committed;
  std::atomic<int64_t>* value;
  std::atomic<bool>* is_held;
  std::atomic<bool>* has_begun;

  void compute(int64_t chunk, std::byte* memory) const {
    if (num_computed->fetch_add(1) == 0) {
      has_begun->store(true);
      wait_while(*is_held);
    }
    std::memcpy(memory, &chunk, sizeof(chunk));
  }
  void commit(int64_t chunk, const std::byte* memory) const {
    int64_t computed = -1;
    std::memcpy(&computed, memory, sizeof(computed));
    if (computed == chunk) num_committed->fetch_add(1);
    value->fetch_add(chunk);
  }
};

// Goal: a thread that stands still in a replayable stage holds up neither that stage nor the thousands after
// it, and what it brings in the end is not counted. Method: a chunk waits for a flag that is lowered after
// all is done, by a stage of the pool where the calling thread is the one that stands still.
TEST(ThreadPool, GoesOnWithoutAThreadThatStandsStill) {
  for (int round = 0; round < 20; ++round) {
    ThreadPool pool(3);
    std::atomic<int> num_computed = 0;
    std::atomic<int> num_committed = 0;
    std::atomic<int64_t> value = 0;
    std::atomic<bool> is_held = true;
    std::atomic<bool> has_begun = false;
    std::atomic<int> num_later = 0;
    pool.enqueue_replayable(6, StandingStill{&num_computed, &num_committed, &value, &is_held, &has_begun});
    for (int i = 0; i < 200; ++i) pool.enqueue(5, [&num_later](int64_t, int) { num_later.fetch_add(1); });
    pool.enqueue(1, [&is_held, &has_begun](int64_t, int) {
      EXPECT_TRUE(has_begun.load()) << "no chunk stood still: the test proves nothing";
      is_held.store(false);
    });
    pool.finish();
    pool.await_stragglers();
    ASSERT_GT(num_computed, 6) << "nothing was computed twice";
    EXPECT_EQ(num_committed, 6);
    EXPECT_EQ(value, 0 + 1 + 2 + 3 + 4 + 5);
    EXPECT_EQ(num_later, 1000);
  }
}

// Goal: after `await_stragglers` nobody reads what a replayable stage was given.
// Method: the first chunk that a worker takes stands still while the calling thread, which waits for that to
// happen, goes on; it is let go a little after `await_stragglers` has begun to wait.
TEST(ThreadPool, AwaitsTheThreadThatIsLate) {
  struct Straggler {
    std::thread::id caller;
    std::atomic<int>* num_late;
    std::atomic<bool>* is_held;
    std::atomic<bool>* is_reading;
    std::atomic<bool>* has_not_begun;
    void compute(int64_t, std::byte*) const {
      if (std::this_thread::get_id() == caller) return wait_while(*has_not_begun);
      if (num_late->fetch_add(1) > 0) return;
      is_reading->store(true);
      has_not_begun->store(false);
      wait_while(*is_held);
      is_reading->store(false);
    }
    void commit(int64_t, const std::byte*) const {}
  };
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> num_late = 0;
    std::atomic<bool> is_held = true;
    std::atomic<bool> is_reading = false;
    std::atomic<bool> has_not_begun = true;
    pool.enqueue_replayable(
        4, Straggler{std::this_thread::get_id(), &num_late, &is_held, &is_reading, &has_not_begun});
    pool.finish();
    ASSERT_TRUE(is_reading) << "no chunk stood still: the test proves nothing";
    std::thread release([&is_held] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      is_held.store(false);
    });
    pool.await_stragglers();
    EXPECT_FALSE(is_reading);
    release.join();
  }
}

// Goal: nothing is lost, counted twice or mixed up when chunks are replayed all the time. Method: chunks that
// are slow at random, in replayable stages between ordinary ones, more than the ring holds.
TEST(ThreadPool, CommitsEachReplayedChunkOnce) {
  ThreadPool pool(4);
  struct Slow {
    std::atomic<int64_t>* counts;
    int64_t stage;
    void compute(int64_t chunk, std::byte* memory) const {
      if ((stage * 7 + chunk) % 97 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
      std::memcpy(memory, &stage, sizeof(stage));
    }
    void commit(int64_t chunk, const std::byte* memory) const {
      int64_t computed = -1;
      std::memcpy(&computed, memory, sizeof(computed));
      counts[chunk].fetch_add(computed == stage ? 1 : 1'000'000);
    }
  };
  std::vector<std::atomic<int64_t>> counts(8);
  for (int64_t stage = 0; stage < 3000; ++stage) {
    pool.enqueue_replayable(8, Slow{counts.data(), stage});
    pool.enqueue(2, [](int64_t, int) {});
  }
  pool.finish();
  for (const auto& count : counts) EXPECT_EQ(count, 3000);
}

// Goal: every thread prepares before its first chunk of a stage, once, and keeps what it made for the others.
// Method: stages with and without preparation in turn, chunks that are slow at random so that they are
// replayed; a chunk adds up where what was prepared is not its stage's, and a stage counts its preparations.
TEST(ThreadPool, PreparesOncePerThreadBeforeItsFirstChunk) {
  struct Prepared {
    std::atomic<int>* num_prepared;
    std::atomic<int>* num_wrong;
    int64_t stage;
    void prepare(std::byte* prepared) const {
      num_prepared->fetch_add(1);
      std::memcpy(prepared + ThreadPool::kPreparedBytes - sizeof(stage), &stage, sizeof(stage));
    }
    void compute(int64_t chunk, std::byte* memory) const {
      if ((stage * 7 + chunk) % 97 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
      int64_t found = -1;
      std::memcpy(&found, memory + ThreadPool::kReplayBytes + ThreadPool::kPreparedBytes - sizeof(found),
                  sizeof(found));
      if (found != stage) num_wrong->fetch_add(1);
    }
    void commit(int64_t, const std::byte*) const {}
  };
  constexpr int kStages = 1000;
  for (const int num_threads : {1, 3}) {
    ThreadPool pool(num_threads);
    std::vector<std::atomic<int>> num_prepared(kStages);
    std::atomic<int> num_wrong = 0;
    for (int64_t stage = 0; stage < kStages; ++stage) {
      pool.enqueue_replayable(8, Prepared{&num_prepared[static_cast<size_t>(stage)], &num_wrong, stage});
      if (stage % 3 == 0) pool.enqueue(2, [](int64_t, int) {});
    }
    pool.finish();
    pool.await_stragglers();
    EXPECT_EQ(num_wrong, 0) << num_threads << " threads";
    for (const auto& count : num_prepared) {
      ASSERT_GE(count, 1);
      ASSERT_LE(count, num_threads);
    }
  }
}

// Goal: of two threads that finish the same chunk at the same moment one commits.
// Method: the only chunk of a stage waits, a little, until a second thread computes it too; both go on at
// once.
TEST(ThreadPool, CommitsAChunkOnceThatTwoThreadsFinishTogether) {
  struct Twice {
    std::atomic<int>* num_here;
    std::atomic<int>* num_committed;
    void compute(int64_t, std::byte*) const {
      num_here->fetch_add(1);
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
      while (num_here->load() < 2 && std::chrono::steady_clock::now() < deadline) continue;
    }
    void commit(int64_t, const std::byte*) const { num_committed->fetch_add(1); }
  };
  ThreadPool pool(2);
  for (int stage = 0; stage < 3000; ++stage) {
    std::atomic<int> num_here = 0;
    std::atomic<int> num_committed = 0;
    pool.enqueue_replayable(1, Twice{&num_here, &num_committed});
    pool.finish();
    pool.await_stragglers();
    ASSERT_EQ(num_committed, 1) << "stage " << stage;
  }
}

// Goal: an idle pool sleeps. CPU time of the whole process while nothing runs, after the spin time has
// passed.
TEST(ThreadPool, UsesNoCpuTimeWhenIdle) {
  ThreadPool pool(4);
  pool.run(16, [](int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double used_ms = 1e3 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(used_ms, 30) << "four spinning threads would have used up to 900 ms";
}

TEST(ThreadPool, StopsWhileItsWorkersSpinOrSleep) {
  for (int round = 0; round < 200; ++round) {
    ThreadPool pool(3);
    if (round % 2 == 0) pool.run(8, [](int64_t, int) {});
    if (round % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(ThreadPool, RefusesThreadCountsOutOfRange) {
  for (const int num_threads : {0, -1, 1025}) EXPECT_THROW(ThreadPool pool(num_threads), Error);
}

}  // namespace
}  // namespace autoglm::test
