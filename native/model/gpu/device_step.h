// The rows of one step as the device needs them: StepRows with slots, angles and attention's lists of work.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cuda/attention/attention.h"
#include "model/decoder_spec.h"
#include "model/gpu/gpu_adapters.h"
#include "model/gpu/step_memory.h"
#include "model/step_rows.h"

namespace autoglm::gpu {

// Work of the layers that cut it in the same way.
struct AttentionLists {
  const cuda::AttentionWork* decode = nullptr;
  const cuda::AttentionWork* prefill = nullptr;
  int32_t num_decode = 0;
  int32_t num_prefill = 0;
  int32_t num_partials = 0;
};

struct DeviceStep {
  int32_t num_rows = 0;  // with those of padding
  const int32_t* num_valid_rows = nullptr;
  const int32_t* tokens = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* token_types = nullptr;
  const int32_t* rope_tables = nullptr;  // what each row adds to the table that a layer names
  const int64_t* slots = nullptr;
  const int32_t* page_tables = nullptr;
  const int32_t* token_sources = nullptr;  // GatherTokensArgs::sources; null where every token is known
  std::vector<AttentionLists> attention;   // by grouping
  StepAdapters adapters;
};

class StepPlanner {
 public:
  // For the layers from `first_layer` on.
  StepPlanner(const DecoderSpec& spec, std::shared_ptr<cuda::Context> context, int64_t first_layer,
              int64_t max_step_tokens);

  // Which of DeviceStep::attention a layer uses.
  size_t grouping_of(size_t layer) const { return layer_groupings_[layer]; }
  int64_t num_row_rope_tables() const { return num_row_rope_tables_; }

  // Lays out the step and queues its copy to the device; true when addresses of earlier steps have become
  // invalid. Steps of single tokens are padded when `pads`, with rows that are stored nowhere, to one of a
  // few sizes.
  bool plan(std::span<const SequenceChunk> chunks, bool pads, cuda::Stream& stream);
  const DeviceStep& step() const { return step_; }
  const StepRows& rows() const { return rows_; }
  const GpuAdapters& adapters() const { return adapters_; }
  void forget_adapter(const Adapter& adapter) { adapters_.forget(adapter); }
  int64_t num_device_bytes() const { return memory_.num_device_bytes(); }

 private:
  struct Sections;

  size_t add_grouping(const cuda::AttentionGrouping& grouping);
  Sections add_sections(std::span<const SequenceChunk> chunks, bool pads);
  void fill(std::span<const SequenceChunk> chunks, const Sections& sections);
  void point_to(const Sections& sections);

  const DecoderSpec& spec_;
  std::vector<cuda::AttentionGrouping> groupings_;
  std::vector<size_t> layer_groupings_;
  int64_t num_row_rope_tables_ = 1;

  StepMemory memory_;
  GpuAdapters adapters_;
  StepRows rows_;
  std::vector<int64_t> table_offsets_;  // of the slices' page tables
  std::vector<cuda::AttentionPlan> plans_;
  DeviceStep step_;
};

// Rows of a padded step: the smallest power of two, and above 64 the smallest multiple of 64, that holds
// them.
constexpr int64_t padded_rows(int64_t num_rows) {
  if (num_rows > 64) return (num_rows + 63) / 64 * 64;
  int64_t padded = 1;
  while (padded < num_rows) padded *= 2;
  return padded;
}

}  // namespace autoglm::gpu
