#include "model/gpu/gpu_back_end.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "cuda/driver/device_registry.h"
#include "cuda/driver/profiler_range.h"
#include "model/gpu/gpu_support.h"
#include "model/gpu/load_device_weights.h"
#include "quant/packed_matrix.h"

namespace autoglm::gpu {
namespace {

constexpr size_t kMaxGraphs = 128;  // some 10 sizes of batches, each at some 10 lengths of sequences

// Steps with adapters have launches of their own: which products they add to, and how many rows.
bool may_replay(std::span<const SequenceChunk> chunks) {
  return std::ranges::all_of(chunks, [](const SequenceChunk& chunk) {
    return chunk.tokens.size() == 1 && chunk.adapter == nullptr;
  });
}

int64_t bytes_of(const PackedMatrix& matrix) {
  return packed_matrix_bytes(matrix.format, matrix.n, matrix.k);
}

int64_t bias_bytes_of(const Linear& linear) {
  constexpr int64_t kAlignment = 64;
  return linear.bias == nullptr
             ? 0
             : cuda::ceil_div(linear.matrix.n * int64_t{sizeof(float)}, kAlignment) * kAlignment;
}

// Gives the pooled layers memory of their own: the arena of the others may go before they are used.
MemoryRegion separate_pooled_layers(DecoderWeights& weights) {
  int64_t num_bytes = 0;
  for (const Linear& linear : weights.pooled_layers)
    num_bytes += bytes_of(linear.matrix) + bias_bytes_of(linear);
  if (num_bytes == 0) return {};
  MemoryRegion region(num_bytes);
  std::byte* next = region.data();
  for (Linear& linear : weights.pooled_layers) {
    const PackedMatrix from = linear.matrix;
    const auto size = static_cast<size_t>(bytes_of(from));
    linear.matrix = make_packed_matrix(from.format, from.precision, from.n, from.k, {next, size});
    std::memcpy(next, from.panels, size);
    next += size;
    if (linear.bias == nullptr) continue;
    std::copy_n(linear.bias, linear.matrix.n, reinterpret_cast<float*>(next));
    linear.bias = reinterpret_cast<const float*>(next);
    next += bias_bytes_of(linear);
  }
  return region;
}

}  // namespace

std::shared_ptr<cuda::Context> open_gpu(const DecoderSpec& spec, Precision precision, KvDtype kv_dtype,
                                        const DeviceChoice& choice) {
  check_gpu_spec(spec, precision, kv_dtype);
  return cuda::open_device(choice.device_idx, choice.modules,
                           choice.library.empty() ? cuda::kDriverLibrary : choice.library);
}

GpuBackEnd::GpuBackEnd(std::shared_ptr<cuda::Context> context, DecoderSpec spec,
                       std::unique_ptr<DecoderWeights> weights, const Settings& settings, ThreadPool& pool,
                       LoadControl& control)
    : spec_(std::move(spec)),
      limits_(settings.limits),
      weights_(std::move(weights)),
      pooled_arena_(separate_pooled_layers(*weights_)),
      pooled_layers_(spec_, *weights_),
      stream_(context),
      is_done_(context),
      planner_(spec_, context, limits_.first_layer, limits_.max_step_tokens),
      decoder_(spec_, load_device_weights(spec_, *weights_, limits_.first_layer, stream_, pool, control),
               kv_type_of(settings.kv_dtype), stream_, limits_, planner_.num_row_rope_tables()) {
  if (limits_.first_layer == 0) {
    weights_->arena = {};
  } else {
    const HostLayers::Settings host{.num_layers = limits_.first_layer,
                                    .kv_dtype = settings.kv_dtype,
                                    .num_pages = limits_.num_pages,
                                    .max_step_tokens = limits_.max_step_tokens};
    host_layers_.emplace(spec_, std::move(weights_), host);
    const auto num_floats = static_cast<size_t>(limits_.max_step_tokens * spec_.hidden_size);
    layer_input_ = cuda::PinnedMemory(context, num_floats * sizeof(float));
  }
  const auto reserve_all = [&](ScratchAllocator allocator) {
    pooled_layers_.reserve(allocator);
    return allocator.num_bytes();
  };
  if (!spec_.pooled_layers.empty()) {
    pooled_scratch_ = MemoryRegion(reserve_all(ScratchAllocator(nullptr)));
    reserve_all(ScratchAllocator(pooled_scratch_.data()));
  }
  if (spec_.head) {
    const auto num_rows = static_cast<size_t>(limits_.max_logit_rows);
    logits_ =
        cuda::PinnedMemory(context, num_rows * static_cast<size_t>(decoder_.logits_stride()) * sizeof(float));
    logit_rows_ = cuda::PinnedMemory(context, num_rows * sizeof(int32_t));
    sampler_.emplace(spec_, context, decoder_.logits_stride(), limits_.max_logit_rows);
  }
  context->kernels().load_all();
  stream_.synchronize();
  note_growth();
}

GpuBackEnd::~GpuBackEnd() {
  // What is freed now must not be in use; that the device is lost is told by the steps.
  try {
    stream_.synchronize();
  } catch (const Error&) {
    graphs_.clear();
  }
}

ModelMemory GpuBackEnd::memory() const {
  const auto pinned_bytes = static_cast<int64_t>(logits_.size() + logit_rows_.size() + layer_input_.size());
  const MemoryUse layers = host_layers_ ? host_layers_->memory() : MemoryUse{};
  return {.host = {.weight_bytes = layers.weight_bytes + pooled_arena_.size(),
                   .kv_bytes = layers.kv_bytes,
                   .scratch_bytes = layers.scratch_bytes + pooled_scratch_.size() + pinned_bytes},
          .device = {.weight_bytes = decoder_.weight_bytes(),
                     .kv_bytes = decoder_.kv_bytes(),
                     .scratch_bytes = device_scratch_bytes_.load()}};
}

void GpuBackEnd::forward(const Execution& execution, std::span<const SequenceChunk> chunks) {
  const cuda::ProfilerRange range("forward");
  if (is_under_way_) wait();  // a step that has failed half-way
  is_under_way_ = true;
  const bool is_replayed = may_replay(chunks);
  // A graph knows the addresses that it was recorded with.
  if (planner_.plan(chunks, is_replayed, stream_)) graphs_.clear();
  if (decoder_.make_room(planner_.step(), planner_.adapters())) graphs_.clear();
  note_growth();
  if (host_layers_) run_host_layers(execution, chunks);
  if (is_replayed) {
    run_graph();
  } else {
    decoder_.run_layers(planner_.step(), planner_);
  }
}

// The rows behind those of the chunks, a graph's padding, keep what they had: they are stored nowhere.
void GpuBackEnd::run_host_layers(const Execution& execution, std::span<const SequenceChunk> chunks) {
  const cuda::ProfilerRange range("host layers");
  const TensorView<const float> hidden = host_layers_->run(execution, chunks);
  const auto num_floats = static_cast<size_t>(hidden.num_rows * spec_.hidden_size);
  std::copy_n(hidden.data, num_floats, layer_input_.as<float>());
  stream_.copy_to_device(decoder_.hidden_input(), layer_input_.data(), num_floats * sizeof(float));
}

void GpuBackEnd::run_graph() {
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

void GpuBackEnd::note_growth() {
  device_scratch_bytes_.store(decoder_.scratch_bytes() + planner_.num_device_bytes() +
                              (sampler_ ? sampler_->num_device_bytes() : 0));
}

// Logits on the device after the outputs row_of(0), row_of(1), ...
template <typename RowOf>
float* GpuBackEnd::queue_logits(size_t num_rows, const RowOf& row_of) {
  is_under_way_ = true;
  const std::span<const int32_t> output_rows = planner_.rows().output_rows();
  const std::span<int32_t> rows(logit_rows_.as<int32_t>(), num_rows);
  for (size_t i = 0; i < num_rows; ++i) rows[i] = output_rows[static_cast<size_t>(row_of(i))];
  stream_.copy_to_device(decoder_.logit_rows(), rows.data(), rows.size_bytes());
  return decoder_.compute_logits(decoder_.logit_rows(), static_cast<int64_t>(num_rows));
}

void GpuBackEnd::draw(std::span<const DrawRequest> requests, std::span<DrawnToken> drawn) {
  const cuda::ProfilerRange range("draw");
  float* const logits = queue_logits(requests.size(), [&](size_t i) { return requests[i].output_row; });
  sampler_->queue(logits, requests, stream_);
  note_growth();
  wait();
  sampler_->read(drawn.first(requests.size()));
}

TensorView<float> GpuBackEnd::compute_logits(const Execution& execution, std::span<const int32_t> rows) {
  const cuda::ProfilerRange range("logits");
  const auto num_rows = static_cast<int64_t>(rows.size());
  const float* logits = queue_logits(rows.size(), [&](size_t i) { return rows[i]; });
  const int64_t stride = decoder_.logits_stride();
  stream_.copy_to_host(logits_.data(), logits, static_cast<size_t>(num_rows * stride) * sizeof(float));
  wait();
  const TensorView<float> result(logits_.as<float>(), num_rows, spec_.vocab_size, stride);
  if (spec_.head->soft_cap) {
    const float cap = *spec_.head->soft_cap;
    execution.run(num_rows, [cap, result](int64_t row, int) {
      float* values = result.row(row);
      for (int64_t i = 0; i < result.num_cols; ++i) values[i] = cap * std::tanh(values[i] / cap);
    });
  }
  return result;
}

TensorView<const float> GpuBackEnd::final_hidden(const Execution&) {
  const int64_t hidden_size = spec_.hidden_size;
  const std::span<const int32_t> output_rows = planner_.rows().output_rows();
  const int64_t num_rows = planner_.rows().count();
  const auto num_bytes = static_cast<size_t>(num_rows * hidden_size) * sizeof(float);
  if (hidden_.size() < num_bytes) hidden_ = cuda::PinnedMemory(stream_.shared_context(), num_bytes);
  is_under_way_ = true;
  stream_.copy_to_host(hidden_.data(), decoder_.final_hidden(), num_bytes);
  wait();
  const TensorView<const float> all(hidden_.as<float>(), num_rows, hidden_size);
  if (static_cast<int64_t>(output_rows.size()) == num_rows) return all;
  gathered_hidden_.resize(output_rows.size() * static_cast<size_t>(hidden_size));
  for (size_t i = 0; i < output_rows.size(); ++i) {
    std::copy_n(all.row(output_rows[i]), hidden_size,
                gathered_hidden_.begin() + static_cast<int64_t>(i) * hidden_size);
  }
  return {gathered_hidden_.data(), static_cast<int64_t>(output_rows.size()), hidden_size};
}

TensorView<const float> GpuBackEnd::apply_pooled_layers(const Execution& execution,
                                                        TensorView<const float> vectors) {
  return pooled_layers_.run(execution, vectors);
}

void GpuBackEnd::finish(const Execution& execution) {
  execution.finish();
  if (is_under_way_) wait();
}

void GpuBackEnd::wait() {
  stream_.record(is_done_);
  is_done_.synchronize();
  is_under_way_ = false;
}

}  // namespace autoglm::gpu
