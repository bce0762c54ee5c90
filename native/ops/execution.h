// What every operation runs on: the pool, the kernels of one instruction set, and how to cut the work.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/cpu_info.h"
#include "base/step_cut.h"
#include "base/thread_pool.h"

namespace autoglm {

namespace cpu {
struct KernelTable;
}

// Cheap to copy; the pool outlives it. Operations are called from one thread at a time. They return when they
// are done, or, with `deferred`, when their stages are queued: then their results are there after `finish`,
// and their operands must live until `ThreadPool::await_stragglers` after that.
class Execution {
 public:
  // Throws invalid_parameter when this binary has no kernels for `isa`.
  Execution(ThreadPool& pool, Isa isa);
  // `kernels` outlives it.
  Execution(ThreadPool& pool, const cpu::KernelTable& kernels) : pool_(&pool), kernels_(&kernels) {}

  ThreadPool& pool() const { return *pool_; }
  const cpu::KernelTable& kernels() const { return *kernels_; }
  const StepCut& cut() const { return cut_; }
  // Those that the work is cut for.
  int num_threads() const {
    const int all = pool_->num_threads();
    return cut_.num_threads == 0 ? all : std::min(cut_.num_threads, all);
  }

  Execution with(const StepCut& cut) const {
    Execution copy = *this;
    copy.cut_ = cut;
    return copy;
  }

  Execution deferred() const {
    Execution copy = *this;
    copy.is_deferred_ = true;
    return copy;
  }
  void finish() const { pool_->finish(); }

  // A stage of an operation; the body is copied. See ThreadPool.
  template <typename Body>
  void run(int64_t num_chunks, const Body& body) const {
    pool_->enqueue(num_chunks, body);
    if (!is_deferred_) pool_->finish();
  }
  template <typename Body>
  void run_replayable(int64_t num_chunks, const Body& body) const {
    pool_->enqueue_replayable(num_chunks, body);
    if (is_deferred_) return;
    pool_->finish();
    pool_->await_stragglers();
  }

 private:
  ThreadPool* pool_;
  const cpu::KernelTable* kernels_;
  StepCut cut_;
  bool is_deferred_ = false;
};

}  // namespace autoglm
