#include "model/gpu/stages/stage.h"

#include <utility>

#include "model/gpu/load_device_weights.h"

namespace autoglm::gpu {
namespace {

constexpr size_t kMaxGraphs = 128;  // some 10 sizes of batches, each at some 10 lengths of sequences

}  // namespace

Stage::Stage(std::shared_ptr<cuda::Context> context, DecoderSpec spec, const DecoderWeights& weights,
             cuda::KvType kv_type, const GpuLimits& limits, ThreadPool& pool, LoadControl& control)
    : spec_(std::move(spec)),
      stream_(context),
      is_done_(context),
      planner_(spec_, context, limits.first_layer, limits.max_step_tokens),
      decoder_(spec_, load_device_weights(spec_, weights, limits.first_layer, stream_, pool, control),
               kv_type, stream_, limits, planner_.num_row_rope_tables()) {
  context->kernels().load_all();
  stream_.synchronize();
}

void Stage::plan(std::span<const SequenceChunk> chunks, bool is_replayed) {
  is_replayed_ = is_replayed;
  // A graph knows the addresses that it was recorded with.
  if (planner_.plan(chunks, is_replayed, stream_)) graphs_.clear();
  if (decoder_.make_room(planner_.step(), planner_.adapters())) graphs_.clear();
}

void Stage::run() {
  const cuda::Context::Current current(stream_.context());
  if (is_replayed_) {
    run_graph();
  } else {
    decoder_.run_layers(planner_.step(), planner_);
  }
}

void Stage::run_graph() {
  const DeviceStep& step = planner_.step();
  std::vector<int32_t> key = {step.num_rows};
  for (const AttentionLists& lists : step.attention) {
    key.push_back(lists.num_decode);
    key.push_back(lists.num_prefill);
  }
  auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    if (graphs_.size() >= kMaxGraphs) graphs_.clear();
    const cuda::Graph graph = cuda::capture(stream_, [&] { decoder_.run_layers(step, planner_); });
    found = graphs_.emplace(std::move(key), cuda::GraphExec(graph)).first;
  } else {
    decoder_.take_step(step, planner_);
  }
  found->second.launch(stream_);
}

void Stage::wait() {
  stream_.record(is_done_);
  is_done_.synchronize();
}

}  // namespace autoglm::gpu
