#include "runtime/load_job.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "model/cpu_back_end.h"
#include "model/decoder.h"
#include "runtime/step_records.h"
#ifdef AUTOGLM_HAS_CUDA
#include "model/gpu/gpu_back_end.h"
#endif

namespace autoglm {
namespace {

#ifdef AUTOGLM_HAS_CUDA
constexpr int64_t kMaxDeviceLogitRows = 256;  // 128 MiB for a vocabulary of 128 Ki, on each side
#endif

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
  const bool is_on_gpu = request_.device && request_.device->stages.front().first_layer == 0;
  check_kv_dtype(request_.spec, request_.kv_dtype, is_on_gpu);
  std::unique_ptr<BackEnd> back_end =
      request_.device ? load_on_device(num_threads) : load_on_cpu(num_threads);
  check();
  return std::make_shared<Model>(model_id_, std::move(back_end),
                                 Model::Limits{.num_rows = request_.max_rows,
                                               .max_step_tokens = request_.max_step_tokens,
                                               .num_threads = num_threads},
                                 StepBuffers{.plans = request_.plans, .results = request_.results});
}

std::unique_ptr<DecoderWeights> LoadJob::load_packed(ThreadPool& pool) {
  pool.place_caller();
  const Precision precision = request_.is_exact ? Precision::exact : Precision::fast;
  std::unique_ptr<DecoderWeights> weights = load_weights(request_.spec, request_.files, request_.weights,
                                                         precision, request_.packed, pool, control_);
  listener_.on_progress();  // that all is there, whatever was told last
  return weights;
}

// Rows of logits that a step may want at once: one for each row, and one for each guess.
int64_t LoadJob::max_logit_rows() const { return request_.max_rows + abi::Limits::maxDrafts; }

std::unique_ptr<BackEnd> LoadJob::load_on_cpu(int num_threads) {
  std::unique_ptr<DecoderWeights> weights;
  {
    ThreadPool pool(num_threads);
    weights = load_packed(pool);
  }
  Decoder decoder(std::move(request_.spec), std::move(weights), request_.kv_dtype, request_.max_step_tokens);
  return std::make_unique<CpuBackEnd>(std::move(decoder), request_.num_pages, max_logit_rows());
}

std::unique_ptr<BackEnd> LoadJob::load_on_device([[maybe_unused]] int num_threads) {
#ifdef AUTOGLM_HAS_CUDA
  const Precision precision = request_.is_exact ? Precision::exact : Precision::fast;
  const std::vector<gpu::StagePlace> places =
      gpu::open_gpus(request_.spec, precision, request_.kv_dtype, *request_.device);
  ThreadPool pool(num_threads);
  std::unique_ptr<DecoderWeights> weights = load_packed(pool);
  const gpu::GpuLimits limits{.num_pages = request_.num_pages,
                              .max_step_tokens = request_.max_step_tokens,
                              .max_logit_rows = std::min(max_logit_rows(), kMaxDeviceLogitRows)};
  return std::make_unique<gpu::GpuBackEnd>(
      places, std::move(request_.spec), std::move(weights),
      gpu::GpuBackEnd::Settings{.kv_dtype = request_.kv_dtype, .limits = limits}, pool, control_);
#else
  throw Error(ErrorCode::invalid_parameter, "this binary has no CUDA code");
#endif
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
