#include "runtime/save_job.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "model/packed_file.h"

namespace autoglm {
namespace {

constexpr int32_t kHurry = 1;
constexpr int32_t kStop = 2;
// Rests this many times as long as it worked: a tenth of a core and of the memory's bandwidth is for the
// file.
constexpr int kRestPerWork = 9;
constexpr std::chrono::milliseconds kNap{20};  // how late it may notice that it is to hurry or to stop

}  // namespace

SaveJob::SaveJob(std::shared_ptr<const Model> model, SaveRequest request, std::function<void()> on_done)
    : model_(std::move(model)),
      request_(std::move(request)),
      on_done_(std::move(on_done)),
      thread_([this] { run(); }) {}

SaveJob::~SaveJob() {
  stop();
  thread_.join();
}

void SaveJob::run() noexcept {
  section_began_ = std::chrono::steady_clock::now();
  try {
    const MemoryRegion& arena = model_->weights().arena;
    if (arena.size() == 0 || arena.held_bytes() < arena.size()) {
      throw Error(ErrorCode::invalid_parameter,
                  "the packed weights are not in the host's memory: the model is on a GPU");
    }
    checksums_ = write_packed_file(request_.path, request_.offset, request_.section_bytes,
                                   {arena.data(), static_cast<size_t>(arena.size())}, [this] { check(); });
  } catch (...) {
    failure_ = std::current_exception();
  }
  on_done_();
}

// The word belongs to JavaScript, which changes it with Atomics; this only reads it.
int32_t SaveJob::pace() const {
  return std::atomic_ref<int32_t>(*const_cast<int32_t*>(request_.pace)).load(std::memory_order_relaxed);
}

// Between two sections.
void SaveJob::check() {
  using Clock = std::chrono::steady_clock;
  const auto rested_at = Clock::now() + kRestPerWork * (Clock::now() - section_began_);
  for (;;) {
    if (is_stopping_.load(std::memory_order_relaxed))
      throw Error(ErrorCode::engine_closed, "the model was closed while its weights were written");
    if (pace() == kStop) throw Error(ErrorCode::aborted, "writing the weights was aborted");
    const auto left = rested_at - Clock::now();
    if (pace() == kHurry || left <= Clock::duration::zero()) break;
    std::this_thread::sleep_for(std::min<Clock::duration>(left, kNap));
  }
  section_began_ = Clock::now();
}

std::vector<uint64_t> SaveJob::take_checksums() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return std::move(checksums_);
}

}  // namespace autoglm
