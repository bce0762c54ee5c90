// A step plan taken out of shared memory: copied once, every count and bound checked, then trusted.
// Layout: base/step_records.def.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/sampling_params.h"
#include "base/step_cut.h"

namespace autoglm {

// What the numbers of a plan may be for one model.
struct PlanLimits {
  int64_t vocab_size = 0;
  int64_t context_length = 0;
  int64_t num_rows = 0;
  int64_t num_pages = 0;
  int64_t max_step_tokens = 0;
  int64_t num_row_rope_tables = 1;  // values Admission::ropeTable may take: 0..n-1
  int64_t num_token_types = 0;      // a second segment needs two
  bool has_language_head = true;    // else every request is of kind `pool`
};

enum class RequestKind : int32_t { generate = 0, logits = 1, score = 2, pool = 3 };

// Which hidden states make the vector of a `pool` request.
enum class Pooling : int32_t { first = 0, mean = 1, last = 2 };

// The spans point into the plan that holds the record.
struct AdmissionRecord {
  int32_t row = 0;
  int32_t generation = 0;
  RequestKind kind = RequestKind::generate;
  int32_t num_prompt_tokens = 0;
  int32_t max_tokens = 0;
  int32_t output_id = 0;
  int32_t rope_table = 0;
  int32_t adapter = 0;  // 0 for none
  Pooling pooling = Pooling::first;
  int32_t second_segment = 0;  // tokens from here on have token type 1; 0 for none
  SamplingParams sampling;
  std::span<const int32_t> tokens;
  std::span<const int32_t> stop_tokens;
  std::span<const int32_t> logit_bias;  // pairs {token id, float bits}
  std::span<const int32_t> positions;   // ascending
};

struct EntryRecord {
  int32_t row = 0;
  int32_t generation = 0;
  int32_t start = 0;
  int32_t count = 0;
  bool samples = false;
  std::span<const int32_t> drafts{};  // guessed tokens of the last positions; in the plan's words
  size_t result_row = 0;              // the first of 1 + drafts.size()

  // Where the row's history ends.
  int64_t known_end() const { return int64_t{start} + count - static_cast<int64_t>(drafts.size()); }
};

struct PageUpdateRecord {
  int32_t row = 0;
  int32_t index = 0;
  int32_t page = 0;
};

class StepPlan {
 public:
  // Throws invalid_parameter naming the record and the number that is out of bounds. Whatever the words are,
  // nothing outside them is read. The plan keeps a copy: a writer that races with the step cannot change what
  // was checked.
  void parse(std::span<const int32_t> shared, const PlanLimits& limits);

  int32_t step() const { return step_; }
  const StepCut& cut() const { return cut_; }
  std::span<const AdmissionRecord> admissions() const { return admissions_; }
  std::span<const PageUpdateRecord> page_updates() const { return page_updates_; }
  std::span<const EntryRecord> entries() const { return entries_; }
  // Of the entries and their drafts.
  size_t num_result_rows() const { return num_result_rows_; }

 private:
  void parse_cut();
  void parse_admissions(const PlanLimits& limits);
  AdmissionRecord parse_admission(std::span<const int32_t> record, const PlanLimits& limits);
  void parse_page_updates(const PlanLimits& limits);
  void parse_entries(const PlanLimits& limits);
  void parse_drafts(std::span<const int32_t> entry_words, const PlanLimits& limits);
  void claim_row(int32_t row, const char* record);
  std::span<const int32_t> section(int32_t offset_field, int64_t num_words) const;

  int32_t step_ = 0;
  StepCut cut_;
  std::vector<int32_t> words_;
  std::vector<AdmissionRecord> admissions_;
  std::vector<PageUpdateRecord> page_updates_;
  std::vector<EntryRecord> entries_;
  std::vector<uint8_t> is_row_claimed_;
  size_t num_result_rows_ = 0;
};

}  // namespace autoglm
