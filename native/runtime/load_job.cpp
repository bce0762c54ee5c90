#include "runtime/load_job.h"

#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

int64_t monotonic_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// The word belongs to JavaScript, which changes it with Atomics; this only reads it.
bool is_set(const int32_t* word) {
  return std::atomic_ref<int32_t>(*const_cast<int32_t*>(word)).load(std::memory_order_relaxed) != 0;
}

}  // namespace

LoadJob::LoadJob(int64_t model_id, LoadRequest request, int num_threads, LoadListener listener)
    : model_id_(model_id), request_(std::move(request)), listener_(std::move(listener)) {
  control_.check = [this] { check(); };
  thread_ = std::thread([this, num_threads] { run(num_threads); });
}

LoadJob::~LoadJob() {
  stop();
  thread_.join();
}

void LoadJob::run(int num_threads) noexcept {
  try {
    model_ = load(num_threads);
  } catch (...) {
    failure_ = std::current_exception();
  }
  listener_.on_done();
}

std::shared_ptr<Model> LoadJob::load(int num_threads) {
  check_decoder_spec(request_.spec);
  check_kv_dtype(request_.spec, request_.kv_dtype);
  const Precision precision = request_.is_exact ? Precision::exact : Precision::fast;
  std::unique_ptr<DecoderWeights> weights;
  {
    ThreadPool pool(num_threads);
    pool.place_caller();
    weights = load_weights(request_.spec, request_.files, request_.weights, precision, request_.packed, pool,
                           control_);
  }
  listener_.on_progress();  // that all is there, whatever was told last
  Decoder decoder(std::move(request_.spec), std::move(weights), request_.kv_dtype, request_.max_step_tokens);
  KvPool kv_pool(decoder.page_bytes(), request_.num_pages);
  check();
  return std::make_shared<Model>(model_id_, std::move(decoder), std::move(kv_pool),
                                 Model::Limits{.num_rows = request_.max_rows,
                                               .max_step_tokens = request_.max_step_tokens,
                                               .num_threads = num_threads},
                                 StepBuffers{.plans = request_.plans, .results = request_.results});
}

void LoadJob::check() {
  if (is_stopping_.load(std::memory_order_relaxed)) {
    throw Error(ErrorCode::engine_closed, "the engine was closed while the model was loading");
  }
  if (is_set(request_.cancel)) throw Error(ErrorCode::aborted, "loading was aborted");
  const int64_t now = monotonic_ms();
  int64_t due = next_progress_ms_.load(std::memory_order_relaxed);
  if (now >= due && next_progress_ms_.compare_exchange_strong(due, now + kProgressInterval.count())) {
    listener_.on_progress();
  }
}

std::shared_ptr<Model> LoadJob::take_model() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return std::move(model_);
}

}  // namespace autoglm
