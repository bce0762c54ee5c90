#include "ops/execution.h"

#include <string>

#include "base/error.h"
#include "cpu/kernel_table.h"

namespace autoglm {

Execution::Execution(ThreadPool& pool, Isa isa) : pool_(&pool), kernels_(cpu::kernels_of(isa)) {
  if (kernels_ == nullptr) {
    throw Error(ErrorCode::invalid_parameter, "this build has no kernels for " + std::string(name_of(isa)));
  }
}

}  // namespace autoglm
