// Loading and steps of a whole model, with memory that runs out at every possible place.
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cstdlib>
#include <memory>
#include <new>
#include <semaphore>
#include <string>
#include <system_error>
#include <vector>

#include "base/cpu_info.h"
#include "base/error.h"
#include "ops/execution.h"
#include "runtime/load_job.h"
#include "runtime/model.h"
#include "runtime/step_records.h"
#include "tiny_model.h"

namespace {

// Allocations that still succeed; negative: all do.
std::atomic<int64_t> allocations_left{-1};

void* allocate(size_t size) {
  if (allocations_left.load() >= 0 && allocations_left.fetch_sub(1) <= 0) {
    allocations_left.store(0);
    throw std::bad_alloc();
  }
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Replace the program's own: only while a test counts down does anything differ. Not inlined: GCC would see
// one half of a pair become `free` and warn that the other was not `malloc`.
#define REPLACED [[gnu::noinline]]
REPLACED void* operator new(size_t size) { return allocate(size); }
REPLACED void* operator new[](size_t size) { return allocate(size); }
// Sanitizers bring their own of these two: memory must come from where `delete` returns it to.
REPLACED void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
REPLACED void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
REPLACED void operator delete(void* memory) noexcept { std::free(memory); }
REPLACED void operator delete[](void* memory) noexcept { std::free(memory); }
REPLACED void operator delete(void* memory, size_t) noexcept { std::free(memory); }
REPLACED void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
#undef REPLACED

namespace autoglm {
namespace {

constexpr int64_t kAllSucceed = -1;

std::shared_ptr<Model> load(LoadRequest request, int num_threads = 2) {
  std::binary_semaphore done(0);
  LoadJob job(1, std::move(request), num_threads,
              {.on_progress = [] {}, .on_done = [&done] { done.release(); }});
  done.acquire();
  return job.take_model();
}

// Words of a plan that admits row 0 with three tokens and samples after them.
void write_plan(std::vector<int32_t>& words, int32_t generation) {
  namespace field = abi::Admission;
  words.assign(abi::kPlanHeaderWords + abi::kAdmissionWords, 0);
  int32_t* admission = &words[abi::kPlanHeaderWords];
  admission[field::words] = abi::kAdmissionWords + 3;
  admission[field::generation] = generation;
  admission[field::numTokens] = 3;
  admission[field::numPromptTokens] = 3;
  admission[field::maxTokens] = 9;
  admission[field::topP] = std::bit_cast<int32_t>(1.0F);
  admission[field::repetitionPenalty] = std::bit_cast<int32_t>(1.5F);
  admission[field::numLogprobs] = 2;
  words.insert(words.end(), {5, 6, 7});
  words[abi::PlanHeader::numAdmissions] = 1;
  words[abi::PlanHeader::admissionsOffset] = abi::kPlanHeaderWords;
  words[abi::PlanHeader::numEntries] = 1;
  words[abi::PlanHeader::entriesOffset] = static_cast<int32_t>(words.size());
  words.insert(words.end(), {0, generation, 0, 3, abi::EntryFlags::sample, 0});
  words[abi::PlanHeader::numPageUpdates] = 1;
  words[abi::PlanHeader::pageUpdatesOffset] = static_cast<int32_t>(words.size());
  words.insert(words.end(), {0, 0, 4});
  words[abi::PlanHeader::totalWords] = static_cast<int32_t>(words.size());
  words.resize(256);
}

// Of a plan that samples after position `start` of row 0, admitted before.
void write_decode(std::vector<int32_t>& words, int32_t generation, int32_t start) {
  words.assign(abi::kPlanHeaderWords, 0);
  words[abi::PlanHeader::admissionsOffset] = abi::kPlanHeaderWords;
  words[abi::PlanHeader::numEntries] = 1;
  words[abi::PlanHeader::entriesOffset] = abi::kPlanHeaderWords;
  words.insert(words.end(), {0, generation, start, 1, abi::EntryFlags::sample, 0});
  words[abi::PlanHeader::pageUpdatesOffset] = static_cast<int32_t>(words.size());
  words[abi::PlanHeader::totalWords] = static_cast<int32_t>(words.size());
  words.resize(256);
}

int32_t sampled_token(const std::vector<int32_t>& result) {
  return result[abi::kResultHeaderWords + abi::ResultRow::token];
}

// Goal: a load that runs out of memory anywhere ends with a typed failure and keeps nothing (the address
// sanitizer's leak check watches). Method: the first, second, third... allocation fails until a load gets by
// with what is left.
TEST(LoadJob, FailsCleanlyWhereverMemoryRunsOut) {
  TinyModel tiny;
  int64_t num_failures = 0;
  for (bool has_loaded = false; !has_loaded; ++num_failures) {
    LoadRequest request = tiny.request();
    std::string unexpected;
    allocations_left.store(num_failures);
    try {
      has_loaded = load(std::move(request)) != nullptr;
    } catch (const std::bad_alloc&) {
    } catch (const std::system_error&) {  // no thread could be started
    } catch (const Error& error) {
      if (error.code != ErrorCode::out_of_memory) unexpected = error.what();
    }
    allocations_left.store(kAllSucceed);
    ASSERT_EQ(unexpected, "") << "allocation " << num_failures;
    ASSERT_LT(num_failures, 10'000);
  }
  EXPECT_GT(num_failures, 50);
}

TEST(Model, StepsFailCleanlyWhereverMemoryRunsOut) {
  TinyModel tiny;
  const std::shared_ptr<Model> model = load(tiny.request());
  ThreadPool pool(2);
  const Execution execution(pool, choose_isa(probe_cpu(), ""));
  write_plan(tiny.plans[0], 1);
  ASSERT_TRUE(model->run_step(0, execution));
  const int32_t expected = sampled_token(tiny.results[0]);
  ASSERT_GE(expected, 0);

  int32_t generation = 1;
  const auto error_code_of_step = [&](int64_t num_allocations) {
    // A model of its own, so that buffers kept from an earlier step do not hide allocations.
    const std::shared_ptr<Model> fresh = load(tiny.request());
    write_plan(tiny.plans[0], ++generation);
    allocations_left.store(num_allocations);
    const bool has_result = fresh->run_step(0, execution);
    allocations_left.store(kAllSucceed);
    EXPECT_TRUE(has_result);
    const int32_t code = tiny.results[0][abi::ResultHeader::errorCode];
    EXPECT_EQ(fresh->step_failure(0).empty(), code == 0) << "allocation " << num_allocations;
    write_plan(tiny.plans[1], ++generation);
    EXPECT_TRUE(fresh->run_step(1, execution));
    EXPECT_EQ(sampled_token(tiny.results[1]), expected) << "after failure " << num_allocations;
    pool.await_stragglers();  // before the model goes
    return code;
  };
  int64_t num_failures = 0;
  for (int32_t code = -1; code != 0; ++num_failures) {
    code = error_code_of_step(num_failures);
    if (code != 0) {
      ASSERT_EQ(code, static_cast<int32_t>(ErrorCode::out_of_memory) + 1) << "allocation " << num_failures;
    }
    ASSERT_LT(num_failures, 1'000);
  }
  EXPECT_GT(num_failures, 5);
}

TEST(Model, KeepsTheTextOfAFailedStep) {
  TinyModel tiny;
  const std::shared_ptr<Model> model = load(tiny.request(), 1);
  ThreadPool pool(1);
  const Execution execution(pool, choose_isa(probe_cpu(), ""));
  for (const int slot : {0, 1}) {
    write_plan(tiny.plans[static_cast<size_t>(slot)], 1);
    EXPECT_EQ(model->step_failure(slot), "");
  }
  tiny.plans[1][static_cast<size_t>(tiny.plans[1][abi::PlanHeader::entriesOffset]) + abi::Entry::count] = 4;
  ASSERT_TRUE(model->run_step(1, execution));
  EXPECT_EQ(model->step_failure(1), "step plan: positions 0 to 4 of row 0 lie past its 3 tokens");
  ASSERT_TRUE(model->run_step(0, execution));
  EXPECT_EQ(model->step_failure(0), "");
}

TEST(StepFailure, KeepsAKibibyteOfWholeCharacters) {
  StepFailure failure;
  failure.set(std::string(1023, 'x') + "\u00e9 and more");
  EXPECT_EQ(failure.text(), std::string(1023, 'x'));
  failure.set(std::string(1022, 'x') + "\u00e9 and more");
  EXPECT_EQ(failure.text(), std::string(1022, 'x') + "\u00e9");
  failure.set("short");
  EXPECT_EQ(failure.text(), "short");
}

TEST(LoadJob, RefusesFp8PagesOnTheProcessor) {
  TinyModel tiny;
  LoadRequest request = tiny.request();
  request.kv_dtype = KvDtype::fp8;
  try {
    load(std::move(request));
    FAIL() << "the model was loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::invalid_parameter);
    EXPECT_NE(std::string(error.what()).find("bf16, int8 or f32 on the processor, got fp8"),
              std::string::npos);
  }
}

TEST(Model, IsSteadyWhileItsSequencesJustGoOn) {
  TinyModel tiny;
  const std::shared_ptr<Model> model = load(tiny.request(), 1);
  ThreadPool pool(1);
  const Execution execution(pool, choose_isa(probe_cpu(), ""));
  const auto run = [&] {
    EXPECT_TRUE(model->run_step(0, execution));
    return model->is_steady();
  };
  write_plan(tiny.plans[0], 1);
  EXPECT_FALSE(run()) << "a prompt";
  // Its nine tokens are the one of the prompt and eight more, the last of which ends it.
  for (int32_t i = 0; i < 8; ++i) {
    write_decode(tiny.plans[0], 1, 3 + i);
    EXPECT_EQ(run(), i < 7) << "decode " << i;
    EXPECT_EQ(tiny.results[0][abi::ResultHeader::errorCode], 0);
  }
  write_decode(tiny.plans[0], 1, 11);
  EXPECT_FALSE(run()) << "a sequence that has ended";
  tiny.plans[0][abi::PlanHeader::totalWords] = 0;
  EXPECT_FALSE(run()) << "a step that fails";
}

TEST(Model, ReportsNothingOnceInterrupted) {
  TinyModel tiny;
  const std::shared_ptr<Model> model = load(tiny.request(), 1);
  ThreadPool pool(1);
  const Execution execution(pool, choose_isa(probe_cpu(), ""));
  write_plan(tiny.plans[0], 1);
  model->interrupt();
  EXPECT_FALSE(model->run_step(0, execution));
}

TEST(LoadJob, EndsWithAbortedWhenTheCancelWordIsSet) {
  TinyModel tiny;
  tiny.cancel = 1;
  try {
    load(tiny.request());
    FAIL() << "the load was not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::aborted);
  }
}

#ifndef AUTOGLM_HAS_CUDA
TEST(LoadJob, RefusesADeviceWithoutCudaCode) {
  TinyModel tiny;
  LoadRequest request = tiny.request();
  request.device.emplace();
  try {
    load(std::move(request));
    FAIL() << "the model was loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::invalid_parameter);
    EXPECT_STREQ(error.what(), "this binary has no CUDA code");
  }
}
#endif

}  // namespace
}  // namespace autoglm
