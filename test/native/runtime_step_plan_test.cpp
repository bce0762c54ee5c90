#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "runtime/step_plan.h"
#include "runtime/step_records.h"

namespace autoglm {
namespace {

constexpr PlanLimits kLimits{.vocab_size = 100,
                             .context_length = 64,
                             .num_rows = 4,
                             .num_pages = 10,
                             .max_step_tokens = 32,
                             .num_row_rope_tables = 1};

// A plan of two admissions, two page updates and two entries, put together word by word.
struct PlanWords {
  std::vector<int32_t> words = std::vector<int32_t>(abi::kPlanHeaderWords, 0);
  size_t first_admission = 0;
  size_t first_entry = 0;
  size_t first_page_update = 0;

  size_t add_admission(int32_t row, RequestKind kind, const std::vector<int32_t>& tokens,
                       const std::vector<int32_t>& stop_tokens, const std::vector<int32_t>& positions) {
    namespace field = abi::Admission;
    const size_t at = words.size();
    words.resize(at + abi::kAdmissionWords, 0);
    words[at + field::row] = row;
    words[at + field::generation] = 7;
    words[at + field::kind] = static_cast<int32_t>(kind);
    words[at + field::numTokens] = static_cast<int32_t>(tokens.size());
    words[at + field::numPromptTokens] = static_cast<int32_t>(tokens.size());
    words[at + field::maxTokens] = 5;
    words[at + field::numStopTokens] = static_cast<int32_t>(stop_tokens.size());
    words[at + field::numLogitBias] = 1;
    words[at + field::numPositions] = static_cast<int32_t>(positions.size());
    words[at + field::temperature] = std::bit_cast<int32_t>(0.5F);
    words[at + field::topP] = std::bit_cast<int32_t>(1.0F);
    words[at + field::repetitionPenalty] = std::bit_cast<int32_t>(1.0F);
    words[at + field::seedLow] = -1;
    words[at + field::seedHigh] = 2;
    words[at + field::numLogprobs] = -1;
    words.insert(words.end(), tokens.begin(), tokens.end());
    words.insert(words.end(), stop_tokens.begin(), stop_tokens.end());
    words.push_back(9);
    words.push_back(std::bit_cast<int32_t>(-2.5F));
    words.insert(words.end(), positions.begin(), positions.end());
    words[at + field::words] = static_cast<int32_t>(words.size() - at);
    return at;
  }
};

PlanWords make_plan() {
  PlanWords plan;
  auto& words = plan.words;
  words[abi::PlanHeader::step] = 3;
  words[abi::PlanHeader::numAdmissions] = 2;
  words[abi::PlanHeader::admissionsOffset] = abi::kPlanHeaderWords;
  plan.first_admission = plan.add_admission(0, RequestKind::generate, {1, 2, 3}, {42}, {});
  plan.add_admission(2, RequestKind::logits, {5, 6, 7, 8}, {}, {1, 3});
  plan.first_entry = words.size();
  words[abi::PlanHeader::numEntries] = 2;
  words[abi::PlanHeader::entriesOffset] = static_cast<int32_t>(words.size());
  words.insert(words.end(), {0, 7, 0, 5, abi::EntryFlags::sample, 2, 2, 7, 0, 4, 0, 0});
  plan.first_page_update = words.size();
  words[abi::PlanHeader::numPageUpdates] = 2;
  words[abi::PlanHeader::pageUpdatesOffset] = static_cast<int32_t>(words.size());
  words.insert(words.end(), {0, 0, 9, 2, 0, 4});
  words[abi::PlanHeader::draftsOffset] = static_cast<int32_t>(words.size());
  words.insert(words.end(), {31, 32});
  words[abi::PlanHeader::totalWords] = static_cast<int32_t>(words.size());
  return plan;
}

ErrorCode refusal_of(const std::vector<int32_t>& words) {
  StepPlan plan;
  try {
    plan.parse(words, kLimits);
  } catch (const Error& error) {
    return error.code;
  }
  ADD_FAILURE() << "the plan was accepted";
  return ErrorCode::internal;
}

TEST(StepPlan, ReadsEveryRecordOfAValidPlan) {
  StepPlan plan;
  plan.parse(make_plan().words, kLimits);
  EXPECT_EQ(plan.step(), 3);
  ASSERT_EQ(plan.admissions().size(), 2U);
  const AdmissionRecord& first = plan.admissions()[0];
  EXPECT_EQ(std::vector<int32_t>(first.tokens.begin(), first.tokens.end()), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(first.stop_tokens.front(), 42);
  EXPECT_EQ(first.logit_bias[0], 9);
  EXPECT_EQ(std::bit_cast<float>(first.logit_bias[1]), -2.5F);
  EXPECT_EQ(first.sampling.temperature, 0.5F);
  EXPECT_EQ(first.sampling.seed, 0x2FFFFFFFFULL);
  const AdmissionRecord& second = plan.admissions()[1];
  EXPECT_EQ(second.kind, RequestKind::logits);
  EXPECT_EQ(std::vector<int32_t>(second.positions.begin(), second.positions.end()),
            (std::vector<int32_t>{1, 3}));
  ASSERT_EQ(plan.entries().size(), 2U);
  EXPECT_TRUE(plan.entries()[0].samples);
  EXPECT_FALSE(plan.entries()[1].samples);
  EXPECT_EQ(plan.entries()[1].count, 4);
  const auto drafts = plan.entries()[0].drafts;
  EXPECT_EQ(std::vector<int32_t>(drafts.begin(), drafts.end()), (std::vector<int32_t>{31, 32}));
  EXPECT_EQ(plan.entries()[0].known_end(), 3);
  EXPECT_TRUE(plan.entries()[1].drafts.empty());
  EXPECT_EQ(plan.entries()[1].result_row, 3U);
  EXPECT_EQ(plan.num_result_rows(), 4U);
  ASSERT_EQ(plan.page_updates().size(), 2U);
  EXPECT_EQ(plan.page_updates()[0].page, 9);
}

TEST(StepPlan, CutsTheWorkAsItIsTold) {
  StepPlan plan;
  std::vector<int32_t> words = make_plan().words;
  words[abi::PlanHeader::numThreads] = 3;
  words[abi::PlanHeader::chunkPercent] = 200;
  plan.parse(words, kLimits);
  EXPECT_EQ(plan.cut().num_threads, 3);
  EXPECT_EQ(plan.cut().chunk_percent, 200);
  plan.parse(make_plan().words, kLimits);
  EXPECT_EQ(plan.cut().num_threads, StepCut().num_threads) << "zero leaves it alone";
  EXPECT_EQ(plan.cut().chunk_percent, StepCut().chunk_percent);
}

TEST(StepPlan, KeepsACopyThatALaterWriterCannotChange) {
  StepPlan plan;
  std::vector<int32_t> words = make_plan().words;
  plan.parse(words, kLimits);
  std::fill(words.begin(), words.end(), -1);
  EXPECT_EQ(plan.admissions()[0].tokens[2], 3);
}

// One word at a time is set to values at the edges of its range; each must be refused.
TEST(StepPlan, RefusesEachNumberThatIsOutOfRange) {
  const PlanWords valid = make_plan();
  const size_t admission = valid.first_admission;
  const size_t entry = valid.first_entry;
  const size_t update = valid.first_page_update;
  const int32_t nan = std::bit_cast<int32_t>(std::nanf(""));
  const std::pair<size_t, int32_t> breaks[] = {
      {abi::PlanHeader::numAdmissions, -1},
      {abi::PlanHeader::numAdmissions, 5},
      {abi::PlanHeader::admissionsOffset, -1},
      {abi::PlanHeader::admissionsOffset, 1 << 30},
      {abi::PlanHeader::numEntries, 3},
      {abi::PlanHeader::entriesOffset, 1 << 30},
      {abi::PlanHeader::numPageUpdates, 3},
      {abi::PlanHeader::numPageUpdates, INT32_MAX},
      {abi::PlanHeader::totalWords, 7},
      {abi::PlanHeader::numThreads, -1},
      {abi::PlanHeader::chunkPercent, -1},
      {abi::PlanHeader::chunkPercent, 10'001},
      {abi::PlanHeader::totalWords, INT32_MAX},
      {abi::PlanHeader::totalWords, static_cast<int32_t>(valid.words.size()) - 1},
      {admission + abi::Admission::words, 4},
      {admission + abi::Admission::words, INT32_MAX},
      {admission + abi::Admission::row, 4},
      {admission + abi::Admission::row, 2},  // the second admission's
      {admission + abi::Admission::kind, 4},
      {admission + abi::Admission::numTokens, 0},
      {admission + abi::Admission::numTokens, 65},
      {admission + abi::Admission::numPromptTokens, 4},
      {admission + abi::Admission::maxTokens, -1},
      {admission + abi::Admission::numStopTokens, INT32_MAX},
      {admission + abi::Admission::numStopTokens, 0},  // its word is left over
      {admission + abi::Admission::numLogitBias, INT32_MAX},
      {admission + abi::Admission::numPositions, 1},  // only for logits
      {admission + abi::Admission::ropeTable, 1},
      {admission + abi::Admission::adapter, -1},
      {admission + abi::Admission::pooling, 3},
      {admission + abi::Admission::pooling, -1},
      {admission + abi::Admission::secondSegment, 1},  // the model has no token types
      {admission + abi::Admission::temperature, nan},
      {admission + abi::Admission::topK, -1},
      {admission + abi::Admission::topP, std::bit_cast<int32_t>(1.5F)},
      {admission + abi::Admission::minP, nan},
      {admission + abi::Admission::repetitionPenalty, 0},
      {admission + abi::Admission::numLogprobs, 21},
      {admission + abi::kAdmissionWords, 100},      // a token id
      {admission + abi::kAdmissionWords + 4, 100},  // a biased token id
      {admission + abi::kAdmissionWords + 5, nan},
      {entry + abi::Entry::row, 4},
      {entry + abi::Entry::row, 2},  // the second entry's
      {entry + abi::Entry::start, -1},
      {entry + abi::Entry::start, 64},
      {entry + abi::Entry::count, 0},
      {entry + abi::Entry::count, 33},  // more than a step holds
      {entry + abi::Entry::flags, 2},
      {entry + abi::Entry::flags, 0},  // drafts, but nothing is sampled
      {entry + abi::Entry::numDrafts, -1},
      {entry + abi::Entry::numDrafts, 3},                     // more than the plan carries
      {entry + abi::Entry::numDrafts, 5},                     // no position of the history
      {entry + abi::kEntryWords + abi::Entry::numDrafts, 1},  // an entry that samples nothing
      {abi::PlanHeader::draftsOffset, 0},
      {abi::PlanHeader::draftsOffset, 1 << 30},
      {static_cast<size_t>(valid.words[abi::PlanHeader::draftsOffset]), 100},  // a drafted token id
      {update + abi::PageUpdate::row, -1},
      {update + abi::PageUpdate::index, 4},
      {update + abi::PageUpdate::page, 10},
  };
  for (const auto& [word, value] : breaks) {
    std::vector<int32_t> words = valid.words;
    words[word] = value;
    SCOPED_TRACE("word " + std::to_string(word) + " = " + std::to_string(value));
    EXPECT_EQ(refusal_of(words), ErrorCode::invalid_parameter);
  }
}

TEST(StepPlan, RefusesPositionsThatDoNotAscend) {
  std::vector<int32_t> words = make_plan().words;
  const size_t last_position = make_plan().first_entry - 1;
  words[last_position] = 1;
  EXPECT_EQ(refusal_of(words), ErrorCode::invalid_parameter);
}

TEST(StepPlan, RefusesAPlanCutAtAnyWord) {
  const std::vector<int32_t> words = make_plan().words;
  for (size_t length = 0; length < words.size(); ++length) {
    std::vector<int32_t> cut(words.begin(), words.begin() + static_cast<ptrdiff_t>(length));
    SCOPED_TRACE(length);
    EXPECT_EQ(refusal_of(cut), ErrorCode::invalid_parameter);
  }
}

// Goal: no words make the parser read or write out of bounds (the sanitizer lanes watch) or escape with
// anything but an invalid_parameter. Method: 20,000 seeded mutations of a valid plan.
TEST(StepPlan, RandomWordsAreParsedOrRefused) {
  const std::vector<int32_t> valid = make_plan().words;
  std::mt19937 random(11);
  const int32_t edges[] = {-1, 0, 1, 2, 64, 1 << 16, INT32_MAX, INT32_MIN};
  StepPlan plan;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<int32_t> words = valid;
    for (int change = 0; change < 3; ++change) {
      const int32_t value = random() % 2 == 0 ? edges[random() % 8] : static_cast<int32_t>(random());
      words[random() % words.size()] = value;
    }
    try {
      plan.parse(words, kLimits);
    } catch (const Error& error) {
      ASSERT_EQ(error.code, ErrorCode::invalid_parameter) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace autoglm
