// What every operation runs on: the pool and the kernels of one instruction set.
#pragma once

#include "base/cpu_info.h"
#include "base/thread_pool.h"

namespace autoglm {

namespace cpu {
struct KernelTable;
}

// Cheap to copy; the pool outlives it. Operations are called from one thread at a time and return when they
// are done.
class Execution {
 public:
  // Throws invalid_parameter when this binary has no kernels for `isa`.
  Execution(ThreadPool& pool, Isa isa);
  // `kernels` outlives it.
  Execution(ThreadPool& pool, const cpu::KernelTable& kernels) : pool_(&pool), kernels_(&kernels) {}

  ThreadPool& pool() const { return *pool_; }
  const cpu::KernelTable& kernels() const { return *kernels_; }

 private:
  ThreadPool* pool_;
  const cpu::KernelTable* kernels_;
};

}  // namespace autoglm
