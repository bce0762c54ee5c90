#include "runtime/adapter_job.h"

#include <utility>

#include "base/error.h"

namespace autoglm {

AdapterJob::AdapterJob(AdapterRequest request, const int32_t* cancel, std::function<void()> on_done)
    : request_(std::move(request)),
      cancel_(cancel),
      on_done_(std::move(on_done)),
      thread_([this] { run(); }) {}

AdapterJob::~AdapterJob() {
  stop();
  thread_.join();
}

void AdapterJob::run() noexcept {
  try {
    adapter_ = std::make_unique<const Adapter>(request_, [this] { check(); });
  } catch (...) {
    failure_ = std::current_exception();
  }
  on_done_();
}

void AdapterJob::check() const {
  if (is_stopping_.load(std::memory_order_relaxed)) {
    throw Error(ErrorCode::engine_closed, "the engine was closed while the adapter was loading");
  }
  // The word belongs to JavaScript, which changes it with Atomics; this only reads it.
  if (std::atomic_ref<int32_t>(*const_cast<int32_t*>(cancel_)).load(std::memory_order_relaxed) != 0) {
    throw Error(ErrorCode::aborted, "loading the adapter was aborted");
  }
}

std::unique_ptr<const Adapter> AdapterJob::take_adapter() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return std::move(adapter_);
}

}  // namespace autoglm
