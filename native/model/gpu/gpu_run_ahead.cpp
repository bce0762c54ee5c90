// Steps that are launched whole, so that the next one stands behind them in the stream before anybody knows
// what they draw. All that a step reads on the device was written there by the stream, behind the kernels of
// the step before; what it reads of the host's memory has two places that take turns.
#include "cuda/driver/profiler_range.h"
#include "model/gpu/gpu_back_end.h"

namespace autoglm::gpu {
namespace {

// Puts the tokens that the step before draws where the step looks for its own.
void gather_tokens(const StepPlanner& planner, const cuda::SampledRow* sampled, cuda::Stream& stream) {
  const DeviceStep& step = planner.step();
  if (step.token_sources == nullptr) return;
  const cuda::GatherTokensArgs args{.sources = step.token_sources,
                                    .given = step.tokens,
                                    .sampled = sampled,
                                    .ids = const_cast<int32_t*>(step.tokens),
                                    .num_ids = static_cast<int32_t>(planner.rows().count())};
  cuda::launch(stream, cuda::gather_tokens_launch(args), args);
}

}  // namespace

void GpuBackEnd::launch(std::span<const SequenceChunk> chunks, std::span<const DrawRequest> requests) {
  const cuda::ProfilerRange range("launch");
  if (is_under_way_) wait();  // a step that has failed half-way
  is_under_way_ = true;
  pipeline_.plan(chunks);
  note_growth();
  gather_tokens(last_.planner(), sampler_->sampled(), last_.stream());
  pipeline_.run();
  if (!requests.empty()) queue_draws(requests);
  launched_->add(last_.stream(), sampler_->turn());
  is_under_way_ = false;
}

void GpuBackEnd::collect(std::span<DrawnToken> drawn) {
  const cuda::ProfilerRange range("collect");
  sampler_->read(launched_->await_first(), drawn);
}

void GpuBackEnd::drop_launched() noexcept {
  if (!launched_ || launched_->is_empty()) return;
  launched_->drop();
  is_under_way_ = true;  // the next step waits for it
}

}  // namespace autoglm::gpu
