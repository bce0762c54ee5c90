#include "model/gpu/gpu_back_end.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cuda/driver/device_registry.h"
#include "cuda/driver/profiler_range.h"
#include "model/gpu/gpu_support.h"
#include "quant/packed_matrix.h"

namespace autoglm::gpu {
namespace {

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

std::vector<StagePlace> open_gpus(const DecoderSpec& spec, Precision precision, KvDtype kv_dtype,
                                  const DeviceChoice& choice) {
  check_gpu_spec(spec, precision, kv_dtype, choice.stages.front().first_layer);
  std::vector<StagePlace> places;
  for (const StageChoice& stage : choice.stages) {
    places.push_back(
        {.context = cuda::open_device(stage.device_idx, choice.modules,
                                      choice.library.empty() ? cuda::kDriverLibrary : choice.library),
         .first_layer = stage.first_layer});
  }
  return places;
}

GpuBackEnd::GpuBackEnd(std::span<const StagePlace> places, DecoderSpec spec,
                       std::unique_ptr<DecoderWeights> weights, const Settings& settings, ThreadPool& pool,
                       LoadControl& control)
    : spec_(std::move(spec)),
      limits_(settings.limits),
      weights_(std::move(weights)),
      pooled_arena_(separate_pooled_layers(*weights_)),
      pooled_layers_(spec_, *weights_),
      pipeline_(places, spec_, *weights_, kv_type_of(settings.kv_dtype), limits_, pool, control),
      last_(pipeline_.last()) {
  const int64_t first_layer = places.front().first_layer;
  if (first_layer == 0) {
    weights_->arena = {};
  } else {
    const HostLayers::Settings host{.num_layers = first_layer,
                                    .kv_dtype = settings.kv_dtype,
                                    .num_pages = limits_.num_pages,
                                    .max_step_tokens = limits_.max_step_tokens};
    host_layers_.emplace(spec_, std::move(weights_), host);
    const auto num_floats = static_cast<size_t>(limits_.max_step_tokens * spec_.hidden_size);
    layer_input_ = cuda::PinnedMemory(places.front().context, num_floats * sizeof(float));
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
    const std::shared_ptr<cuda::Context>& context = places.back().context;
    const auto num_rows = static_cast<size_t>(limits_.max_logit_rows);
    const auto stride = static_cast<size_t>(last_.decoder().logits_stride());
    logits_ = cuda::PinnedMemory(context, num_rows * stride * sizeof(float));
    logit_rows_ = cuda::PinnedMemory(context, 2 * num_rows * sizeof(int32_t));
    sampler_.emplace(spec_, context, last_.decoder().logits_stride(), limits_.max_logit_rows);
    if (pipeline_.num_stages() == 1 && !host_layers_) launched_.emplace(context);
  }
  note_growth();
}

ModelMemory GpuBackEnd::memory() const {
  const auto pinned_bytes = static_cast<int64_t>(logits_.size() + logit_rows_.size() + layer_input_.size()) +
                            pipeline_.num_host_bytes();
  const MemoryUse layers = host_layers_ ? host_layers_->memory() : MemoryUse{};
  return {.host = {.weight_bytes = layers.weight_bytes + pooled_arena_.size(),
                   .kv_bytes = layers.kv_bytes,
                   .scratch_bytes = layers.scratch_bytes + pooled_scratch_.size() + pinned_bytes},
          .device = {.weight_bytes = pipeline_.weight_bytes(),
                     .kv_bytes = pipeline_.kv_bytes(),
                     .scratch_bytes = device_scratch_bytes_.load()}};
}

void GpuBackEnd::forward(const Execution& execution, std::span<const SequenceChunk> chunks) {
  const cuda::ProfilerRange range("forward");
  if (is_under_way_) wait();  // a step that has failed half-way
  is_under_way_ = true;
  pipeline_.plan(chunks);
  note_growth();
  if (host_layers_) run_host_layers(execution, chunks);
  pipeline_.run();
}

// The rows behind those of the chunks, a graph's padding, keep what they had: they are stored nowhere.
void GpuBackEnd::run_host_layers(const Execution& execution, std::span<const SequenceChunk> chunks) {
  const cuda::ProfilerRange range("host layers");
  const TensorView<const float> hidden = host_layers_->run(execution, chunks);
  const auto num_floats = static_cast<size_t>(hidden.num_rows * spec_.hidden_size);
  std::copy_n(hidden.data, num_floats, layer_input_.as<float>());
  Stage& first = pipeline_.first();
  first.stream().copy_to_device(first.decoder().hidden(), layer_input_.data(), num_floats * sizeof(float));
}

void GpuBackEnd::note_growth() {
  device_scratch_bytes_.store(pipeline_.scratch_bytes() + (sampler_ ? sampler_->num_device_bytes() : 0));
}

// Logits on the device after the outputs row_of(0), row_of(1), ...
template <typename RowOf>
float* GpuBackEnd::queue_logits(size_t num_rows, const RowOf& row_of) {
  is_under_way_ = true;
  const std::span<const int32_t> output_rows = last_.planner().rows().output_rows();
  logit_rows_turn_ = 1 - logit_rows_turn_;
  const std::span<int32_t> rows(logit_rows_.as<int32_t>() + logit_rows_turn_ * limits_.max_logit_rows,
                                num_rows);
  for (size_t i = 0; i < num_rows; ++i) rows[i] = output_rows[static_cast<size_t>(row_of(i))];
  last_.stream().copy_to_device(last_.decoder().logit_rows(), rows.data(), rows.size_bytes());
  return last_.decoder().compute_logits(last_.decoder().logit_rows(), static_cast<int64_t>(num_rows));
}

void GpuBackEnd::queue_draws(std::span<const DrawRequest> requests) {
  float* const logits = queue_logits(requests.size(), [&](size_t i) { return requests[i].output_row; });
  sampler_->queue(logits, requests, last_.stream());
  note_growth();
}

void GpuBackEnd::draw(std::span<const DrawRequest> requests, std::span<DrawnToken> drawn) {
  const cuda::ProfilerRange range("draw");
  queue_draws(requests);
  wait();
  sampler_->read(sampler_->turn(), drawn.first(requests.size()));
}

TensorView<float> GpuBackEnd::compute_logits(const Execution& execution, std::span<const int32_t> rows) {
  const cuda::ProfilerRange range("logits");
  const auto num_rows = static_cast<int64_t>(rows.size());
  const float* logits = queue_logits(rows.size(), [&](size_t i) { return rows[i]; });
  const int64_t stride = last_.decoder().logits_stride();
  last_.stream().copy_to_host(logits_.data(), logits, static_cast<size_t>(num_rows * stride) * sizeof(float));
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
  const std::span<const int32_t> output_rows = last_.planner().rows().output_rows();
  const int64_t num_rows = last_.planner().rows().count();
  const auto num_bytes = static_cast<size_t>(num_rows * hidden_size) * sizeof(float);
  if (hidden_.size() < num_bytes) hidden_ = cuda::PinnedMemory(last_.stream().shared_context(), num_bytes);
  is_under_way_ = true;
  last_.stream().copy_to_host(hidden_.data(), last_.decoder().final_hidden(), num_bytes);
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
  pipeline_.wait();
  is_under_way_ = false;
}

}  // namespace autoglm::gpu
