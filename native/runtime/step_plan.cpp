#include "runtime/step_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "base/error.h"
#include "runtime/step_records.h"

namespace autoglm {
namespace {

// Far outside what could pay, far inside what could overflow.
constexpr int64_t kMinChunkPercent = 1;
constexpr int64_t kMaxChunkPercent = 10'000;
constexpr float kMaxPenalty = 1e4f;  // far outside any use; keeps products with logits finite

[[noreturn]] void refuse(const std::string& what, int64_t found, const std::string& allowed) {
  throw Error(ErrorCode::invalid_parameter,
              "step plan: " + what + " is " + std::to_string(found) + ", expected " + allowed);
}

void check_range(int64_t value, int64_t low, int64_t high, const char* what) {
  if (value < low || value > high) {
    refuse(what, value, std::to_string(low) + ".." + std::to_string(high));
  }
}

float checked_float(int32_t bits, float low, float high, const char* what) {
  const float value = std::bit_cast<float>(bits);
  if (!(value >= low && value <= high)) {
    throw Error(ErrorCode::invalid_parameter, "step plan: " + std::string(what) + " is " +
                                                  std::to_string(value) + ", expected " +
                                                  std::to_string(low) + ".." + std::to_string(high));
  }
  return value;
}

SamplingParams parse_sampling(std::span<const int32_t> record) {
  namespace field = abi::Admission;
  SamplingParams params;
  params.temperature = checked_float(record[field::temperature], 0, kMaxPenalty, "temperature");
  params.top_k = record[field::topK];
  check_range(params.top_k, 0, INT32_MAX, "topK");
  params.top_p = checked_float(record[field::topP], 0, 1, "topP");
  params.min_p = checked_float(record[field::minP], 0, 1, "minP");
  params.repetition_penalty =
      checked_float(record[field::repetitionPenalty], 1 / kMaxPenalty, kMaxPenalty, "repetitionPenalty");
  params.presence_penalty =
      checked_float(record[field::presencePenalty], -kMaxPenalty, kMaxPenalty, "presencePenalty");
  params.frequency_penalty =
      checked_float(record[field::frequencyPenalty], -kMaxPenalty, kMaxPenalty, "frequencyPenalty");
  params.seed = uint64_t{static_cast<uint32_t>(record[field::seedHigh])} << 32 |
                static_cast<uint32_t>(record[field::seedLow]);
  params.num_logprobs = record[field::numLogprobs];
  check_range(params.num_logprobs, -1, abi::Limits::maxLogprobs, "numLogprobs");
  return params;
}

void check_token_ids(std::span<const int32_t> tokens, int64_t vocab_size, const char* what) {
  for (const int32_t token : tokens) check_range(token, 0, vocab_size - 1, what);
}

void check_positions(std::span<const int32_t> positions, int64_t num_tokens) {
  int64_t previous = -1;
  for (const int32_t position : positions) {
    check_range(position, previous + 1, num_tokens - 1, "a position whose logits are wanted");
    previous = position;
  }
}

}  // namespace

void StepPlan::parse(std::span<const int32_t> shared, const PlanLimits& limits) {
  namespace header = abi::PlanHeader;
  step_ = shared.empty() ? 0 : shared[header::step];
  admissions_.clear();
  page_updates_.clear();
  entries_.clear();
  num_result_rows_ = 0;
  if (shared.size() < abi::kPlanHeaderWords) refuse("the buffer's length", shared.size(), "a whole header");
  const int32_t total_words = shared[header::totalWords];
  check_range(total_words, abi::kPlanHeaderWords, static_cast<int64_t>(shared.size()), "totalWords");
  words_.assign(shared.begin(), shared.begin() + total_words);
  words_[header::totalWords] = total_words;
  parse_cut();
  parse_admissions(limits);
  parse_page_updates(limits);
  parse_entries(limits);
}

// 0 leaves a choice as it is without tuning.
void StepPlan::parse_cut() {
  namespace header = abi::PlanHeader;
  cut_ = {};
  const auto choose = [this](int32_t field, int64_t low, int64_t high, const char* what, auto& choice) {
    if (words_[field] == 0) return;
    check_range(words_[field], low, high, what);
    choice = words_[field];
  };
  choose(header::numThreads, 1, INT32_MAX, "numThreads", cut_.num_threads);
  choose(header::chunkPercent, kMinChunkPercent, kMaxChunkPercent, "chunkPercent", cut_.chunk_percent);
}

// The words of a section of known length that starts where the header says.
std::span<const int32_t> StepPlan::section(int32_t offset_field, int64_t num_words) const {
  const int64_t offset = words_[offset_field];
  check_range(offset, abi::kPlanHeaderWords, static_cast<int64_t>(words_.size()) - num_words,
              "a section's offset");
  return std::span<const int32_t>(words_).subspan(static_cast<size_t>(offset),
                                                  static_cast<size_t>(num_words));
}

void StepPlan::parse_admissions(const PlanLimits& limits) {
  const int32_t num_admissions = words_[abi::PlanHeader::numAdmissions];
  check_range(num_admissions, 0, limits.num_rows, "numAdmissions");
  is_row_claimed_.assign(static_cast<size_t>(limits.num_rows), 0);
  const int64_t offset = words_[abi::PlanHeader::admissionsOffset];
  check_range(offset, abi::kPlanHeaderWords, static_cast<int64_t>(words_.size()), "admissionsOffset");
  auto rest = std::span<const int32_t>(words_).subspan(static_cast<size_t>(offset));
  for (int32_t i = 0; i < num_admissions; ++i) {
    if (rest.size() < abi::kAdmissionWords) refuse("an admission's room", rest.size(), "a whole record");
    const int32_t record_words = rest[abi::Admission::words];
    check_range(record_words, abi::kAdmissionWords, static_cast<int64_t>(rest.size()),
                "an admission's words");
    admissions_.push_back(parse_admission(rest.first(static_cast<size_t>(record_words)), limits));
    claim_row(admissions_.back().row, "admissions");
    rest = rest.subspan(static_cast<size_t>(record_words));
  }
}

AdmissionRecord StepPlan::parse_admission(std::span<const int32_t> record, const PlanLimits& limits) {
  namespace field = abi::Admission;
  AdmissionRecord result;
  result.row = record[field::row];
  check_range(result.row, 0, limits.num_rows - 1, "an admission's row");
  result.generation = record[field::generation];
  check_range(record[field::kind], limits.has_language_head ? 0 : static_cast<int32_t>(RequestKind::pool),
              static_cast<int32_t>(RequestKind::pool), "an admission's kind");
  result.kind = static_cast<RequestKind>(record[field::kind]);
  const int64_t num_tokens = record[field::numTokens];
  check_range(num_tokens, 1, limits.context_length, "numTokens");
  result.num_prompt_tokens = record[field::numPromptTokens];
  check_range(result.num_prompt_tokens, 1, num_tokens, "numPromptTokens");
  result.max_tokens = record[field::maxTokens];
  check_range(result.max_tokens, 0, INT32_MAX, "maxTokens");
  const int64_t num_stop_tokens = record[field::numStopTokens];
  check_range(num_stop_tokens, 0, static_cast<int64_t>(record.size()), "numStopTokens");
  const int64_t num_logit_bias = record[field::numLogitBias];
  check_range(num_logit_bias, 0, static_cast<int64_t>(record.size()), "numLogitBias");
  const int64_t num_positions = record[field::numPositions];
  check_range(num_positions, 0, result.kind == RequestKind::logits ? num_tokens : 0, "numPositions");
  const int64_t expected_words =
      abi::kAdmissionWords + num_tokens + num_stop_tokens + 2 * num_logit_bias + num_positions;
  if (expected_words != static_cast<int64_t>(record.size())) {
    refuse("an admission's words", static_cast<int64_t>(record.size()), std::to_string(expected_words));
  }
  result.output_id = record[field::outputId];
  result.rope_table = record[field::ropeTable];
  check_range(result.rope_table, 0, limits.num_row_rope_tables - 1, "ropeTable");
  result.adapter = record[field::adapter];
  check_range(result.adapter, 0, INT32_MAX, "adapter");
  check_range(record[field::pooling], 0, static_cast<int32_t>(Pooling::last), "pooling");
  result.pooling = static_cast<Pooling>(record[field::pooling]);
  result.second_segment = record[field::secondSegment];
  check_range(result.second_segment, 0, limits.num_token_types < 2 ? 0 : num_tokens - 1, "secondSegment");
  result.sampling = parse_sampling(record);

  auto tail = record.subspan(abi::kAdmissionWords);
  const auto take = [&tail](int64_t count) {
    const auto taken = tail.first(static_cast<size_t>(count));
    tail = tail.subspan(static_cast<size_t>(count));
    return taken;
  };
  result.tokens = take(num_tokens);
  check_token_ids(result.tokens, limits.vocab_size, "a token id");
  result.stop_tokens = take(num_stop_tokens);
  result.logit_bias = take(2 * num_logit_bias);
  for (size_t i = 0; i < result.logit_bias.size(); i += 2) {
    check_range(result.logit_bias[i], 0, limits.vocab_size - 1, "a biased token id");
    checked_float(result.logit_bias[i + 1], -kMaxPenalty, kMaxPenalty, "a logit bias");
  }
  result.positions = take(num_positions);
  check_positions(result.positions, num_tokens);
  return result;
}

void StepPlan::parse_page_updates(const PlanLimits& limits) {
  const int64_t count = words_[abi::PlanHeader::numPageUpdates];
  check_range(count, 0, INT32_MAX / abi::kPageUpdateWords, "numPageUpdates");
  const auto records = section(abi::PlanHeader::pageUpdatesOffset, count * abi::kPageUpdateWords);
  const int64_t pages_per_row = (limits.context_length + abi::Limits::pageSize - 1) / abi::Limits::pageSize;
  page_updates_.reserve(static_cast<size_t>(count));
  for (size_t at = 0; at < records.size(); at += abi::kPageUpdateWords) {
    const PageUpdateRecord update{records[at + abi::PageUpdate::row], records[at + abi::PageUpdate::index],
                                  records[at + abi::PageUpdate::page]};
    check_range(update.row, 0, limits.num_rows - 1, "a page update's row");
    check_range(update.index, 0, pages_per_row - 1, "a page update's index");
    check_range(update.page, 0, limits.num_pages - 1, "a page");
    page_updates_.push_back(update);
  }
}

void StepPlan::parse_entries(const PlanLimits& limits) {
  const int64_t count = words_[abi::PlanHeader::numEntries];
  check_range(count, 0, limits.num_rows, "numEntries");
  const auto records = section(abi::PlanHeader::entriesOffset, count * abi::kEntryWords);
  is_row_claimed_.assign(static_cast<size_t>(limits.num_rows), 0);
  int64_t num_tokens = 0;
  entries_.reserve(static_cast<size_t>(count));
  for (size_t at = 0; at < records.size(); at += abi::kEntryWords) {
    const int32_t flags = records[at + abi::Entry::flags];
    check_range(flags, 0, abi::EntryFlags::sample, "an entry's flags");
    const EntryRecord entry{.row = records[at + abi::Entry::row],
                            .generation = records[at + abi::Entry::generation],
                            .start = records[at + abi::Entry::start],
                            .count = records[at + abi::Entry::count],
                            .samples = flags != 0,
                            .result_row = entries_.size()};
    check_range(entry.row, 0, limits.num_rows - 1, "an entry's row");
    claim_row(entry.row, "entries");
    check_range(entry.start, 0, limits.context_length - 1, "an entry's start");
    check_range(entry.count, 1, limits.context_length - entry.start, "an entry's count");
    num_tokens += entry.count;
    entries_.push_back(entry);
  }
  check_range(num_tokens, 0, limits.max_step_tokens, "the entries' tokens in all");
  parse_drafts(records, limits);
}

// Hands each entry its part of the drafted tokens.
void StepPlan::parse_drafts(std::span<const int32_t> entry_words, const PlanLimits& limits) {
  int64_t num_drafts = 0;
  const auto drafts_of = [entry_words](size_t entry_idx) {
    return entry_words[entry_idx * abi::kEntryWords + abi::Entry::numDrafts];
  };
  for (size_t i = 0; i < entries_.size(); ++i) {
    const int64_t most = entries_[i].samples ? std::min(abi::Limits::maxDrafts, entries_[i].count - 1) : 0;
    check_range(drafts_of(i), 0, most, "an entry's numDrafts");
    num_drafts += drafts_of(i);
  }
  check_range(num_drafts, 0, abi::Limits::maxStepDrafts, "the entries' drafts in all");
  num_result_rows_ = entries_.size() + static_cast<size_t>(num_drafts);
  if (num_drafts == 0) return;
  const auto drafts = section(abi::PlanHeader::draftsOffset, num_drafts);
  check_token_ids(drafts, limits.vocab_size, "a drafted token id");
  size_t at = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    entries_[i].result_row = i + at;
    entries_[i].drafts = drafts.subspan(at, static_cast<size_t>(drafts_of(i)));
    at += entries_[i].drafts.size();
  }
}

void StepPlan::claim_row(int32_t row, const char* record) {
  if (is_row_claimed_[static_cast<size_t>(row)] != 0) {
    refuse("row of two " + std::string(record), row, "each row once");
  }
  is_row_claimed_[static_cast<size_t>(row)] = 1;
}

}  // namespace autoglm
