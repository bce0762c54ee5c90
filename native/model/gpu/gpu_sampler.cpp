#include "model/gpu/gpu_sampler.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace autoglm::gpu {
namespace {

constexpr size_t kFirstBytes = 1 << 16;

bool is_adjusted(const DrawRequest& request) {
  return request.sampling->has_penalties() || !request.logit_bias.empty();
}

bool is_limited(const SamplingParams& sampling) {
  return sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0;
}

}  // namespace

GpuSampler::GpuSampler(const DecoderSpec& spec, std::shared_ptr<cuda::Context> context, int64_t row_stride,
                       int64_t max_rows)
    : context_(context),
      max_rows_(max_rows),
      memory_(context, kFirstBytes),
      sampled_(context, static_cast<size_t>(max_rows) * sizeof(cuda::SampledRow)) {
  for (cuda::PinnedMemory& answers : answers_) answers = cuda::PinnedMemory(context, sampled_.size());
  args_.row_stride = row_stride;
  args_.vocab_size = static_cast<int32_t>(spec.vocab_size);
  args_.soft_cap = spec.head->soft_cap.value_or(0);
  args_.out = sampled_.as<cuda::SampledRow>();
}

void GpuSampler::queue(float* logits, std::span<const DrawRequest> requests, cuda::Stream& stream) {
  args_.logits = logits;
  args_.num_rows = static_cast<int32_t>(requests.size());
  const int64_t num_slots = std::ranges::count_if(requests, is_adjusted);
  args_.has_adjusted_rows = num_slots > 0;
  args_.has_drawn_rows = std::ranges::any_of(
      requests, [](const DrawRequest& request) { return request.sampling->temperature > 0; });
  args_.has_limited_rows =
      std::ranges::any_of(requests, [](const DrawRequest& request) { return is_limited(*request.sampling); });
  write_rows(requests, stream);
  memory_.copy(stream);
  make_workspace(num_slots, stream);
  cuda::launch(stream, cuda::sampling_count_launch(args_), args_);
  cuda::launch(stream, cuda::sampling_scan_launch(args_), args_);
  cuda::launch(stream, cuda::sampling_weigh_launch(args_), args_);
  cuda::launch(stream, cuda::sampling_limit_launch(args_), args_);
  turn_ = 1 - turn_;
  stream.copy_to_host(answers_[turn_].data(), sampled_.data(), requests.size() * sizeof(cuda::SampledRow));
}

// Slots are as long as the vocabulary: there are as many as a step has needed. Each step leaves the zeros
// that it found.
void GpuSampler::make_workspace(int64_t num_slots, cuda::Stream& stream) {
  if (workspace_.size() > 0 && num_slots <= num_slots_) return;
  num_slots_ = std::max(num_slots, std::min(2 * num_slots_, max_rows_));
  args_.layout = cuda::sampling_layout(max_rows_, num_slots_, args_.vocab_size);
  stream.synchronize();  // the step before may be using it
  workspace_ = {};
  workspace_ = cuda::DeviceMemory(context_, static_cast<size_t>(args_.layout.num_bytes));
  args_.workspace = workspace_.data();
  stream.fill(workspace_.data(), 0, static_cast<size_t>(args_.layout.num_zeroed));
}

void GpuSampler::write_rows(std::span<const DrawRequest> requests, cuda::Stream& stream) {
  size_t num_tokens = 0;
  size_t num_biases = 0;
  for (const DrawRequest& request : requests) {
    if (request.sampling->has_penalties()) num_tokens += request.tokens.size();
    num_biases += request.logit_bias.size();
  }
  memory_.begin();
  const auto row_section = memory_.add<cuda::SamplingRow>(requests.size());
  const auto bias_section = memory_.add<cuda::LogitBias>(num_biases);
  const auto token_section = memory_.add<int32_t>(num_tokens);
  memory_.make_room(stream);
  const std::span<cuda::LogitBias> biases = memory_.host(bias_section);
  const std::span<int32_t> tokens = memory_.host(token_section);
  int64_t next_token = 0;
  int32_t next_bias = 0;
  int32_t next_slot = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const DrawRequest& request = requests[i];
    const SamplingParams& sampling = *request.sampling;
    memory_.host(row_section)[i] = {.seed = sampling.seed,
                                    .first_token = next_token,
                                    .num_prompt_tokens = static_cast<int32_t>(request.num_prompt_tokens),
                                    .num_tokens = static_cast<int32_t>(request.num_tokens()),
                                    .first_bias = next_bias,
                                    .num_biases = static_cast<int32_t>(request.logit_bias.size()),
                                    .adjusted_slot = is_adjusted(request) ? next_slot++ : -1,
                                    .num_logprobs = sampling.num_logprobs,
                                    .top_k = sampling.top_k,
                                    .top_p = sampling.top_p,
                                    .min_p = sampling.min_p,
                                    .temperature = sampling.temperature,
                                    .penalties = {.repetition = sampling.repetition_penalty,
                                                  .presence = sampling.presence_penalty,
                                                  .frequency = sampling.frequency_penalty}};
    if (sampling.has_penalties()) {
      std::ranges::copy(request.tokens, tokens.begin() + next_token);
      next_token += static_cast<int64_t>(request.tokens.size());
    }
    std::ranges::transform(request.logit_bias, biases.begin() + next_bias, [](const auto& bias) {
      return cuda::LogitBias{.token = bias.first, .value = bias.second};
    });
    std::ranges::stable_sort(biases.subspan(static_cast<size_t>(next_bias), request.logit_bias.size()), {},
                             &cuda::LogitBias::token);
    next_bias += static_cast<int32_t>(request.logit_bias.size());
  }
  args_.rows = memory_.device(row_section);
  args_.biases = memory_.device(bias_section);
  args_.tokens = const_cast<int32_t*>(memory_.device(token_section));  // no row here appends to its history
}

void GpuSampler::read(size_t turn, std::span<DrawnToken> drawn) const {
  const std::span<const cuda::SampledRow> answers(answers_[turn].as<cuda::SampledRow>(), drawn.size());
  for (size_t i = 0; i < drawn.size(); ++i) {
    const cuda::SampledRow& answer = answers[i];
    drawn[i] = {};
    drawn[i].is_numeric_error = answer.status != cuda::SamplingStatus::fine;
    if (drawn[i].is_numeric_error) continue;
    drawn[i].token = answer.token;
    drawn[i].logprob = answer.logprob;
    drawn[i].num_top = answer.num_top;
    std::copy_n(answer.top_tokens, answer.num_top, drawn[i].top_tokens.begin());
    std::copy_n(answer.top_logprobs, answer.num_top, drawn[i].top_logprobs.begin());
  }
}

}  // namespace autoglm::gpu
