#include "model/gpu/device_step.h"

#include <algorithm>
#include <utility>

namespace autoglm::gpu {
namespace {

constexpr size_t kFirstBytes = 1 << 20;

bool is_same(const cuda::AttentionGrouping& left, const cuda::AttentionGrouping& right) {
  return left.heads_per_group == right.heads_per_group && left.prefill_pairs == right.prefill_pairs &&
         left.is_causal == right.is_causal && left.sliding_window == right.sliding_window;
}

size_t pages_of(const SequenceSlice& slice) {
  return static_cast<size_t>((slice.start + slice.count + kPageSize - 1) / kPageSize);
}

}  // namespace

struct StepPlanner::Sections {
  struct Lists {
    StepSection<cuda::AttentionWork> decode;
    StepSection<cuda::AttentionWork> prefill;
  };
  StepSection<int32_t> num_valid_rows;
  StepSection<int32_t> tokens, positions, token_types, rope_tables;
  StepSection<int64_t> slots;
  std::vector<Lists> attention;
  // Last, where no graph looks for them: the longer sequences get, the more there is.
  StepSection<int32_t> page_tables;
  StepSection<int32_t> token_sources;
};

StepPlanner::StepPlanner(const DecoderSpec& spec, std::shared_ptr<cuda::Context> context, int64_t first_layer,
                         int64_t max_step_tokens)
    : spec_(spec),
      layer_groupings_(spec.layers.size(), 0),
      memory_(std::move(context), kFirstBytes),
      adapters_(spec, first_layer) {
  int64_t last_named = 0;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = spec.layers[i].attention;
    // The tables of the processor's layers count too: rows name theirs beside those of the whole model.
    if (attention.rope_table) last_named = std::max<int64_t>(last_named, *attention.rope_table);
    if (static_cast<int64_t>(i) < first_layer) continue;
    layer_groupings_[i] =
        add_grouping({.heads_per_group = attention.num_q_heads / attention.num_kv_heads,
                      .prefill_pairs = cuda::prefill_pairs(attention.head_dim, attention.latent.has_value()),
                      .is_causal = attention.is_causal,
                      .sliding_window = attention.sliding_window.value_or(0)});
  }
  num_row_rope_tables_ = std::max<int64_t>(1, static_cast<int64_t>(spec.rope_tables.size()) - last_named);
  rows_.reserve(max_step_tokens);
}

size_t StepPlanner::add_grouping(const cuda::AttentionGrouping& grouping) {
  const auto found =
      std::ranges::find_if(groupings_, [&](const auto& each) { return is_same(each, grouping); });
  if (found != groupings_.end()) return static_cast<size_t>(found - groupings_.begin());
  groupings_.push_back(grouping);
  return groupings_.size() - 1;
}

bool StepPlanner::plan(std::span<const SequenceChunk> chunks, bool pads, cuda::Stream& stream) {
  rows_.begin(chunks);
  adapters_.begin_step(chunks, rows_.slices(), stream);
  table_offsets_.clear();
  int64_t num_pages = 0;
  for (const SequenceSlice& slice : rows_.slices()) {
    table_offsets_.push_back(num_pages);
    num_pages += static_cast<int64_t>(pages_of(slice));
  }
  plans_.clear();
  for (const cuda::AttentionGrouping& grouping : groupings_)
    plans_.push_back(cuda::plan_attention(rows_.slices(), table_offsets_, grouping));
  const Sections sections = add_sections(chunks, pads);
  const bool has_moved = memory_.make_room(stream);
  fill(chunks, sections);
  point_to(sections);
  memory_.copy(stream);
  return has_moved;
}

StepPlanner::Sections StepPlanner::add_sections(std::span<const SequenceChunk> chunks, bool pads) {
  const auto num_rows = static_cast<size_t>(pads ? padded_rows(rows_.count()) : rows_.count());
  const auto room_for = [pads](size_t count) {
    return pads ? static_cast<size_t>(padded_rows(static_cast<int64_t>(count))) : count;
  };
  Sections sections;
  memory_.begin();
  sections.num_valid_rows = memory_.add<int32_t>(1);
  sections.tokens = memory_.add<int32_t>(num_rows);
  sections.positions = memory_.add<int32_t>(num_rows);
  sections.token_types = memory_.add<int32_t>(num_rows);
  sections.rope_tables = memory_.add<int32_t>(num_rows);
  sections.slots = memory_.add<int64_t>(num_rows);
  for (const cuda::AttentionPlan& plan : plans_) {
    sections.attention.push_back({.decode = memory_.add<cuda::AttentionWork>(room_for(plan.decode.size())),
                                  .prefill = memory_.add<cuda::AttentionWork>(plan.prefill.size())});
  }
  adapters_.add_sections(memory_);
  const size_t num_pages = rows_.slices().empty()
                               ? 0
                               : static_cast<size_t>(table_offsets_.back()) + pages_of(rows_.slices().back());
  sections.page_tables = memory_.add<int32_t>(num_pages);
  if (std::ranges::any_of(chunks, [](const SequenceChunk& chunk) { return chunk.pending_draw >= 0; }))
    sections.token_sources = memory_.add<int32_t>(static_cast<size_t>(rows_.count()));
  return sections;
}

void StepPlanner::fill(std::span<const SequenceChunk> chunks, const Sections& sections) {
  memory_.host(sections.num_valid_rows)[0] = static_cast<int32_t>(rows_.count());
  const auto copy = [&](std::span<const int32_t> from, const StepSection<int32_t>& section) {
    const std::span<int32_t> to = memory_.host(section);
    std::ranges::fill(std::ranges::copy(from, to.begin()).out, to.end(), 0);
  };
  copy(rows_.tokens(), sections.tokens);
  copy(rows_.positions(), sections.positions);
  copy(rows_.token_types(), sections.token_types);
  const std::span<int64_t> slots = memory_.host(sections.slots);
  const std::span<int32_t> page_tables = memory_.host(sections.page_tables);
  std::ranges::fill(slots, -1);
  for (size_t i = 0; i < rows_.slices().size(); ++i) {
    const SequenceSlice& slice = rows_.slices()[i];
    std::copy_n(slice.page_table, pages_of(slice), page_tables.begin() + table_offsets_[i]);
    for (int64_t token = 0; token < slice.count; ++token) {
      const int64_t position = slice.start + token;
      slots[static_cast<size_t>(slice.first_row + token)] =
          int64_t{slice.page_table[position / kPageSize]} * kPageSize + position % kPageSize;
    }
  }
  for (size_t i = 0; i < plans_.size(); ++i) {
    const std::span<cuda::AttentionWork> decode = memory_.host(sections.attention[i].decode);
    std::ranges::fill(std::ranges::copy(plans_[i].decode, decode.begin()).out, decode.end(),
                      cuda::AttentionWork{});
    std::ranges::copy(plans_[i].prefill, memory_.host(sections.attention[i].prefill).begin());
  }
  const std::span<int32_t> rope_tables = memory_.host(sections.rope_tables);
  std::ranges::fill(rope_tables, 0);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const SequenceSlice& slice = rows_.slices()[i];
    std::fill_n(rope_tables.begin() + slice.first_row, slice.count, chunks[i].rope_table);
  }
  if (sections.token_sources.count == 0) return;
  const std::span<int32_t> sources = memory_.host(sections.token_sources);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const SequenceSlice& slice = rows_.slices()[i];
    std::fill_n(sources.begin() + slice.first_row, slice.count, chunks[i].pending_draw);
  }
}

void StepPlanner::point_to(const Sections& sections) {
  step_ = {
      .num_rows = static_cast<int32_t>(sections.tokens.count),
      .num_valid_rows = memory_.device(sections.num_valid_rows),
      .tokens = memory_.device(sections.tokens),
      .positions = memory_.device(sections.positions),
      .token_types = memory_.device(sections.token_types),
      .rope_tables = memory_.device(sections.rope_tables),
      .slots = memory_.device(sections.slots),
      .page_tables = memory_.device(sections.page_tables),
      .token_sources = sections.token_sources.count > 0 ? memory_.device(sections.token_sources) : nullptr,
      .attention = {},
      .adapters = adapters_.fill(memory_)};
  for (size_t i = 0; i < plans_.size(); ++i) {
    const Sections::Lists& lists = sections.attention[i];
    step_.attention.push_back({.decode = memory_.device(lists.decode),
                               .prefill = memory_.device(lists.prefill),
                               .num_decode = static_cast<int32_t>(lists.decode.count),
                               .num_prefill = static_cast<int32_t>(lists.prefill.count),
                               .num_partials = plans_[i].num_partials});
  }
}

}  // namespace autoglm::gpu
