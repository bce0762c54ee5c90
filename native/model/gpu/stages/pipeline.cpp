#include "model/gpu/stages/pipeline.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace autoglm::gpu {
namespace {

// Steps with adapters have launches of their own: which products they add to, and how many rows.
bool may_replay(std::span<const SequenceChunk> chunks) {
  return std::ranges::all_of(chunks, [](const SequenceChunk& chunk) {
    return chunk.tokens.size() == 1 && chunk.adapter == nullptr;
  });
}

template <typename Items, typename Measure>
int64_t sum_of(const Items& items, const Measure& measure) {
  return std::accumulate(items.begin(), items.end(), int64_t{0},
                         [&](int64_t sum, const auto& item) { return sum + measure(*item); });
}

}  // namespace

Pipeline::Pipeline(std::span<const StagePlace> places, const DecoderSpec& spec, const DecoderWeights& weights,
                   cuda::KvType kv_type, GpuLimits limits, ThreadPool& pool, LoadControl& control)
    : hidden_size_(spec.hidden_size) {
  const auto max_bytes = static_cast<size_t>(limits.max_step_tokens * hidden_size_) * sizeof(float);
  for (size_t i = 0; i < places.size(); ++i) {
    const bool is_last = i + 1 == places.size();
    const int64_t end = is_last ? static_cast<int64_t>(spec.layers.size()) : places[i + 1].first_layer;
    limits.first_layer = places[i].first_layer;
    stages_.push_back(std::make_unique<Stage>(places[i].context, spec.first_layers(end), weights, kv_type,
                                              limits, pool, control));
    if (i > 0) links_.push_back(std::make_unique<StageLink>(*stages_[i - 1], *stages_[i], max_bytes));
  }
}

void Pipeline::plan(std::span<const SequenceChunk> chunks) {
  const bool is_replayed = may_replay(chunks);
  for (const auto& stage : stages_) stage->plan(chunks, is_replayed);
}

// The rows behind those of the chunks, a graph's padding, keep what they had: they are stored nowhere.
void Pipeline::run() {
  const auto num_rows = static_cast<size_t>(last().planner().rows().count());
  const size_t num_bytes = num_rows * static_cast<size_t>(hidden_size_) * sizeof(float);
  for (size_t i = 0; i < stages_.size(); ++i) {
    if (i > 0) links_[i - 1]->carry(num_bytes);
    stages_[i]->run();
  }
}

// In the order of the work: the device that is lost tells of it by its own event, and nobody waits for one
// that stands behind it.
void Pipeline::wait() {
  for (const auto& stage : stages_) stage->wait();
}

void Pipeline::settle() noexcept {
  try {
    wait();
  } catch (const Error&) {
    return;  // that a device is lost is told by the steps
  }
}

void Pipeline::forget_adapter(const Adapter& adapter) {
  for (const auto& stage : stages_) stage->planner().forget_adapter(adapter);
}

int64_t Pipeline::weight_bytes() const {
  return sum_of(stages_, [](const Stage& stage) { return stage.decoder().weight_bytes(); });
}

int64_t Pipeline::kv_bytes() const {
  return sum_of(stages_, [](const Stage& stage) { return stage.decoder().kv_bytes(); });
}

int64_t Pipeline::scratch_bytes() const {
  return sum_of(stages_, [](const Stage& stage) { return stage.scratch_bytes(); });
}

int64_t Pipeline::num_host_bytes() const {
  return sum_of(links_, [](const StageLink& link) { return link.num_host_bytes(); });
}

}  // namespace autoglm::gpu
