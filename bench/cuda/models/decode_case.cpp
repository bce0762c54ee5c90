#include "models/decode_case.h"

#include <algorithm>
#include <ctime>
#include <span>
#include <utility>

#include "base/cpu_info.h"
#include "model/gpu/gpu_back_end.h"
#include "model/gpu/gpu_support.h"
#include "model/gpu/weight_upload.h"
#include "random_values.h"

namespace autoglm::bench {
namespace {

constexpr int64_t kStepTokens = 512;    // one prompt of the bars, and one micro-batch of llama.cpp
constexpr size_t kPlanWords = 1 << 16;  // prompts of a step, or 32 sequences' page tables, many times over

double cpu_seconds_of_this_thread() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

DecodeCase::DecodeCase(Lab& lab, const ModelShape& shape, WeightForm form, const Workload& largest)
    : shape_(shape),
      spec_(spec_of(shape, largest.prompt_len + largest.num_steps + 1)),
      largest_(largest),
      pages_per_row_(static_cast<int32_t>(
          cuda::ceil_div(spec_.context_length, static_cast<int64_t>(abi::Limits::pageSize)))) {
  for (auto& plan : plans_) plan.resize(kPlanWords);
  for (auto& result : results_) {
    result.resize(
        static_cast<size_t>(abi::kResultHeaderWords + largest.num_sequences * abi::Limits::resultRowWords));
  }
  load(lab, form);
  const EngineListener listener{.on_step = [this](int64_t, int slot, bool has_more) { note(slot, has_more); },
                                .on_model_closed = [](int64_t) {},
                                .on_adapter_removed = [](int32_t) {},
                                .on_stopped = [] {}};
  engine_ = std::make_unique<Engine>(1, choose_isa(probe_cpu(), ""), listener);
}

// The engine's thread goes before the model that it computes.
DecodeCase::~DecodeCase() { engine_.reset(); }

void DecodeCase::load(Lab& lab, WeightForm form) {
  gpu::check_gpu_spec(spec_, Precision::fast, KvDtype::bf16, 0);
  std::unique_ptr<DecoderWeights> weights = random_weights(spec_, form);
  const gpu::MatrixPart embedding{.source = weights->embedding, .num_rows = spec_.vocab_size};
  const int64_t embedding_bytes =
      gpu::device_matrix_bytes(gpu::choose_form({&embedding, 1}), spec_.vocab_size, spec_.hidden_size);
  const Model::Limits limits{.num_rows = largest_.num_sequences,
                             .max_step_tokens = std::max<int64_t>(kStepTokens, largest_.num_sequences),
                             .num_threads = 1};
  const gpu::GpuBackEnd::Settings settings{
      .kv_dtype = KvDtype::bf16,
      .limits = {.num_pages = int64_t{pages_per_row_} * largest_.num_sequences,
                 .max_step_tokens = limits.max_step_tokens,
                 .max_logit_rows = largest_.num_sequences}};
  ThreadPool pool(1);
  LoadControl control;
  control.check = [] {};
  const gpu::StagePlace place{.context = open_marked_device(lab)};
  auto back_end = std::make_unique<gpu::GpuBackEnd>(std::span(&place, 1), spec_, std::move(weights), settings,
                                                    pool, control);
  weight_bytes_ = back_end->memory().device.weight_bytes - (shape_.is_tied ? 0 : embedding_bytes);
  StepBuffers buffers;
  std::ranges::copy(plans_, buffers.plans.begin());
  std::ranges::copy(results_, buffers.results.begin());
  model_ = std::make_shared<Model>(1, std::move(back_end), limits, buffers);
}

// On the engine's thread.
void DecodeCase::note(int slot, bool has_more) {
  const StepNotice notice{now(), cpu_seconds_of_this_thread(), has_more};
  const std::vector<int32_t>& result = results_[static_cast<size_t>(slot)];
  const std::lock_guard lock(mutex_);
  if (result[abi::ResultHeader::errorCode] != 0 && failure_.empty()) failure_ = model_->step_failure(slot);
  for (int32_t i = 0; i < result[abi::ResultHeader::numRows]; ++i) {
    const int32_t* const row =
        &result[static_cast<size_t>(abi::kResultHeaderWords + i * abi::Limits::resultRowWords)];
    if (row[abi::ResultRow::numTokens] == 1) tokens_.push_back(row[abi::ResultRow::token]);
  }
  notices_.push_back(notice);
  has_notices_.notify_one();
}

// Rows [first_row, first_row + num_rows) get their requests and draw their first tokens. Pages of all rows
// lie among each other, as they would after some hours.
PlanWriter DecodeCase::prefill_plan(const Workload& workload, int32_t first_row, int32_t num_rows) const {
  PlanWriter plan;
  std::vector<int32_t> prompt(static_cast<size_t>(workload.prompt_len));
  for (int32_t row = first_row; row < first_row + num_rows; ++row) {
    test::Random random(static_cast<uint64_t>(row) + 1);
    for (int32_t& token : prompt) token = static_cast<int32_t>(random.below(spec_.vocab_size));
    plan.admit({.row = row,
                .generation = generation_,
                .prompt = prompt,
                .max_tokens = workload.num_steps + 1,
                .num_pages = pages_per_row_,
                .first_page = row,
                .page_stride = largest_.num_sequences});
    plan.compute(row, generation_, 0, workload.prompt_len);
  }
  return plan;
}

PlanWriter DecodeCase::decode_plan(const Workload& workload, int32_t step) const {
  PlanWriter plan;
  for (int32_t row = 0; row < workload.num_sequences; ++row)
    plan.compute(row, generation_, workload.prompt_len + step, 1);
  return plan;
}

// As many plans ahead of the results as the queue takes.
void DecodeCase::submit(const PlanWriter& plan) {
  const size_t depth = plans_.size();
  if (num_submitted_ >= depth) wait_for_notices(num_submitted_ - depth + 1);
  const size_t slot = num_submitted_++ % depth;
  plan.write_to(plans_[slot]);
  engine_->submit(model_, static_cast<int>(slot));
}

void DecodeCase::wait_for_notices(size_t count) {
  std::unique_lock lock(mutex_);
  has_notices_.wait(lock, [&] { return notices_.size() >= count; });
  if (!failure_.empty())
    throw Error(ErrorCode::internal,
                "a step of the " + std::string(shape_.name) + " model failed: " + failure_);
}

RunTimes DecodeCase::run(const Workload& workload, bool sets_marks) {
  ++generation_;
  num_submitted_ = 0;
  notices_.clear();
  tokens_.clear();
  const auto rows_at_once = static_cast<int32_t>(std::max<int64_t>(1, kStepTokens / workload.prompt_len));
  const double begin = now();
  for (int32_t row = 0; row < workload.num_sequences; row += rows_at_once)
    submit(prefill_plan(workload, row, std::min(rows_at_once, workload.num_sequences - row)));
  const size_t num_prefills = num_submitted_;
  wait_for_notices(num_prefills);
  if (sets_marks) begin_marks(static_cast<size_t>(workload.num_steps));
  for (int32_t step = 0; step < workload.num_steps; ++step) submit(decode_plan(workload, step));
  wait_for_notices(num_submitted_);
  const auto num_tokens = static_cast<size_t>(workload.num_sequences * (workload.num_steps + 1));
  if (tokens_.size() != num_tokens) {
    throw Error(ErrorCode::internal, "expected " + std::to_string(num_tokens) + " tokens of the " +
                                         shape_.name + " model, got " + std::to_string(tokens_.size()));
  }
  RunTimes times{.prefill = notices_[num_prefills - 1].seconds - begin, .gaps = {}, .tokens = tokens_};
  if (workload.num_steps == 0) return times;
  const StepTimes steps = step_times(std::span(notices_).subspan(num_prefills));
  times.step = steps.step;
  times.cpu_of_step = steps.cpu_of_step;
  if (sets_marks) times.gaps = end_marks(workload.num_steps - 1);
  return times;
}

}  // namespace autoglm::bench
