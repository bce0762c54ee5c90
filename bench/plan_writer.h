// Writes step plans in place of the package's scheduler; base/step_records.def has their layout.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "base/step_cut.h"
#include "runtime/step_records.h"

namespace autoglm {

class PlanWriter {
 public:
  explicit PlanWriter(const StepCut& cut = {}) : cut_(cut) {}

  // Greedy, without stop tokens. The row's pages are num_pages from first_page on, each `page_stride` behind
  // the one before.
  struct Admitted {
    int32_t row = 0;
    int32_t generation = 0;
    std::span<const int32_t> prompt;
    int64_t max_tokens = 0;
    int32_t num_pages = 0;
    int32_t first_page = 0;
    int32_t page_stride = 1;
  };
  void admit(const Admitted& request) {
    namespace field = abi::Admission;
    const auto num_tokens = static_cast<int32_t>(request.prompt.size());
    std::array<int32_t, abi::kAdmissionWords> record{};
    record[field::words] = abi::kAdmissionWords + num_tokens;
    record[field::row] = request.row;
    record[field::generation] = request.generation;
    record[field::numTokens] = record[field::numPromptTokens] = num_tokens;
    record[field::maxTokens] = static_cast<int32_t>(request.max_tokens);
    record[field::topP] = record[field::repetitionPenalty] = std::bit_cast<int32_t>(1.0F);
    record[field::numLogprobs] = -1;
    admissions_.insert(admissions_.end(), record.begin(), record.end());
    admissions_.insert(admissions_.end(), request.prompt.begin(), request.prompt.end());
    for (int32_t i = 0; i < request.num_pages; ++i)
      pages_.insert(pages_.end(), {request.row, i, request.first_page + i * request.page_stride});
    ++num_admissions_;
  }

  // Positions [start, start + count) of the row, and a token behind the last.
  void compute(int32_t row, int32_t generation, int64_t start, int64_t count) {
    namespace field = abi::Entry;
    std::array<int32_t, abi::kEntryWords> record{};
    record[field::row] = row;
    record[field::generation] = generation;
    record[field::start] = static_cast<int32_t>(start);
    record[field::count] = static_cast<int32_t>(count);
    record[field::flags] = abi::EntryFlags::sample;
    entries_.insert(entries_.end(), record.begin(), record.end());
  }

  // Throws std::length_error where the slot is too small.
  void write_to(std::span<int32_t> slot) const {
    std::vector<int32_t> words(abi::kPlanHeaderWords, 0);
    const auto append = [&words](const std::vector<int32_t>& section, int32_t offset_field) {
      words[static_cast<size_t>(offset_field)] = static_cast<int32_t>(words.size());
      words.insert(words.end(), section.begin(), section.end());
    };
    append(admissions_, abi::PlanHeader::admissionsOffset);
    append(entries_, abi::PlanHeader::entriesOffset);
    append(pages_, abi::PlanHeader::pageUpdatesOffset);
    append({}, abi::PlanHeader::draftsOffset);
    words[abi::PlanHeader::numAdmissions] = num_admissions_;
    words[abi::PlanHeader::numEntries] = static_cast<int32_t>(entries_.size()) / abi::kEntryWords;
    words[abi::PlanHeader::numPageUpdates] = static_cast<int32_t>(pages_.size()) / abi::kPageUpdateWords;
    words[abi::PlanHeader::totalWords] = static_cast<int32_t>(words.size());
    words[abi::PlanHeader::numThreads] = cut_.num_threads;
    words[abi::PlanHeader::chunkPercent] = static_cast<int32_t>(cut_.chunk_percent);
    if (words.size() > slot.size()) throw std::length_error("the plan does not fit");
    std::ranges::copy(words, slot.begin());
  }

 private:
  std::vector<int32_t> admissions_, entries_, pages_;
  int32_t num_admissions_ = 0;
  StepCut cut_;
};

}  // namespace autoglm
