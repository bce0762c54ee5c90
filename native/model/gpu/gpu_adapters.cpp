#include "model/gpu/gpu_adapters.h"

#include <algorithm>
#include <utility>

#include "model/gpu/host_rows.h"

namespace autoglm::gpu {
namespace {

constexpr int64_t kRankUnit = 8;
constexpr int64_t kMatrixUnit = 128;  // bfloat16: matrices begin where an arena's pieces would

int64_t padded_rank(int64_t rank) { return cuda::ceil_div(rank, kRankUnit) * kRankUnit; }

// Matrices in the making, one behind the other.
class MatrixBlock {
 public:
  // Place of [num_rows, num_cols] zeros.
  int64_t add(int64_t num_rows, int64_t num_cols) {
    const auto first = static_cast<int64_t>(values_.size());
    const int64_t count = cuda::ceil_div(num_rows * num_cols, kMatrixUnit) * kMatrixUnit;
    values_.resize(static_cast<size_t>(first + count));
    return first;
  }
  void fill(int64_t at, const PackedMatrix& matrix, int64_t row_stride) {
    for (int64_t row = 0; row < matrix.n; ++row) {
      unpack_row(matrix, row,
                 std::span(values_).subspan(static_cast<size_t>(at + row * row_stride),
                                            static_cast<size_t>(row_stride)));
    }
  }
  std::span<const cuda::Bf16> values() const { return values_; }

 private:
  std::vector<cuda::Bf16> values_;
};

}  // namespace

GpuAdapters::DeviceAdapter GpuAdapters::upload(const Adapter& adapter, cuda::Stream& stream) {
  struct Places {
    int64_t a = 0;
    std::vector<int64_t> b;
  };
  DeviceAdapter result;
  MatrixBlock block;
  std::vector<std::array<Places, kNumProducts>> places(spec_.layers.size());
  result.layers.resize(spec_.layers.size());
  for (auto layer = static_cast<size_t>(first_layer_); layer < spec_.layers.size(); ++layer) {
    for (size_t product = 0; product < kNumProducts; ++product) {
      const std::vector<LowRank>& additions = adapter.additions(layer, static_cast<Product>(product));
      if (additions.empty()) continue;
      Addition& addition = result.layers[layer][product];
      for (const LowRank& each : additions) {
        const int64_t rank = padded_rank(each.a.n);
        addition.parts.push_back({.first_col = static_cast<int32_t>(each.first_col),
                                  .num_cols = static_cast<int32_t>(each.b.n),
                                  .first_low = addition.rank,
                                  .rank = static_cast<int32_t>(rank),
                                  .scale = each.scale});
        addition.rank += static_cast<int32_t>(rank);
      }
      const int64_t k = additions.front().a.k;
      Places& place = places[layer][product];
      place.a = block.add(addition.rank, k);
      for (size_t i = 0; i < additions.size(); ++i) {
        const cuda::LoraPart& part = addition.parts[i];
        block.fill(place.a + part.first_low * k, additions[i].a, k);
        place.b.push_back(block.add(part.num_cols, part.rank));
        block.fill(place.b.back(), additions[i].b, part.rank);
      }
      max_rank_ = std::max<int64_t>(max_rank_, addition.rank);
    }
  }
  const std::span<const cuda::Bf16> values = block.values();
  result.arena = cuda::Arena(stream.shared_context(), values.size_bytes());
  auto* const base = result.arena.take<cuda::Bf16>(values.size());
  stream.copy_to_device(base, values.data(), values.size_bytes());
  for (size_t layer = 0; layer < places.size(); ++layer) {
    for (size_t product = 0; product < kNumProducts; ++product) {
      Addition& addition = result.layers[layer][product];
      addition.a = base + places[layer][product].a;
      for (size_t i = 0; i < addition.parts.size(); ++i)
        addition.parts[i].b = base + places[layer][product].b[i];
    }
  }
  return result;
}

void GpuAdapters::begin_step(std::span<const SequenceChunk> chunks, std::span<const SequenceSlice> slices,
                             cuda::Stream& stream) {
  used_.clear();
  std::vector<cuda::LoraRun> runs;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Adapter* adapter = chunks[i].adapter;
    if (adapter == nullptr) continue;
    auto found = adapters_.find(adapter);
    if (found == adapters_.end()) found = adapters_.emplace(adapter, upload(*adapter, stream)).first;
    if (used_.empty() || used_.back() != &found->second) used_.push_back(&found->second);
    runs.push_back({.first_row = static_cast<int32_t>(slices[i].first_row),
                    .num_rows = static_cast<int32_t>(slices[i].count),
                    .adapter = static_cast<int32_t>(used_.size()) - 1});
    // Chunks of one adapter lie side by side.
    if (runs.size() > 1 && runs[runs.size() - 2].adapter == runs.back().adapter) {
      runs[runs.size() - 2].num_rows += runs.back().num_rows;
      runs.pop_back();
    }
  }
  runs_ = cuda::cut_lora_runs(runs);
}

void GpuAdapters::add_sections(StepMemory& memory) {
  if (!is_active()) return;
  size_t num_parts = 0;
  for (const DeviceAdapter* adapter : used_) {
    for (const auto& layer : adapter->layers) {
      for (const Addition& addition : layer) num_parts += addition.parts.size();
    }
  }
  adapter_section_ = memory.add<cuda::LoraAdapter>(spec_.layers.size() * kNumProducts * used_.size());
  part_section_ = memory.add<cuda::LoraPart>(num_parts);
  run_section_ = memory.add<cuda::LoraRun>(runs_.size());
}

StepAdapters GpuAdapters::fill(const StepMemory& memory) const {
  if (!is_active()) return {};
  StepAdapters step{.parts = memory.device(part_section_),
                    .runs = memory.device(run_section_),
                    .num_runs = static_cast<int32_t>(runs_.size()),
                    .layers = {}};
  step.layers.resize(spec_.layers.size());
  std::ranges::copy(runs_, memory.host(run_section_).begin());
  const std::span<cuda::LoraAdapter> adapters = memory.host(adapter_section_);
  const std::span<cuda::LoraPart> parts = memory.host(part_section_);
  size_t next_adapter = 0;
  size_t next_part = 0;
  for (size_t layer = 0; layer < step.layers.size(); ++layer) {
    for (size_t product = 0; product < kNumProducts; ++product) {
      ProductAdditions& additions = step.layers[layer][product];
      additions.adapters = memory.device(adapter_section_) + next_adapter;
      for (const DeviceAdapter* adapter : used_) {
        const Addition& addition = adapter->layers[layer][product];
        additions.max_rank = std::max(additions.max_rank, addition.rank);
        adapters[next_adapter++] = {.a = addition.a,
                                    .rank = addition.rank,
                                    .first_part = static_cast<int32_t>(next_part),
                                    .num_parts = static_cast<int32_t>(addition.parts.size())};
        std::ranges::copy(addition.parts, parts.begin() + static_cast<int64_t>(next_part));
        next_part += addition.parts.size();
      }
    }
  }
  return step;
}

}  // namespace autoglm::gpu
