#include <gtest/gtest.h>

#include <vector>

#include "runtime/row.h"
#include "runtime/step_records.h"

namespace autoglm {
namespace {

constexpr int64_t kContextLength = 64;

AdmissionRecord admission(std::span<const int32_t> tokens, std::span<const int32_t> stop_tokens) {
  AdmissionRecord record;
  record.generation = 5;
  record.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  record.max_tokens = 3;
  record.tokens = tokens;
  record.stop_tokens = stop_tokens;
  return record;
}

TEST(Row, FinishesAtAStopTokenAndKeepsIt) {
  const std::vector<int32_t> prompt{1, 2};
  const std::vector<int32_t> stop{9, 4};
  Row row;
  row.admit(admission(prompt, stop), kContextLength);
  EXPECT_EQ(row.append(3), abi::Finish::none);
  EXPECT_TRUE(row.is_running(5));
  EXPECT_EQ(row.append(4), abi::Finish::stop);
  EXPECT_FALSE(row.is_running(5));
  EXPECT_EQ(row.tokens().back(), 4);
}

TEST(Row, FinishesAfterMaxTokensOfOutput) {
  const std::vector<int32_t> prompt{1, 2};
  Row row;
  row.admit(admission(prompt, {}), kContextLength);
  EXPECT_EQ(row.append(3), abi::Finish::none);
  EXPECT_EQ(row.append(3), abi::Finish::none);
  EXPECT_EQ(row.append(3), abi::Finish::length);
}

// A preempted request comes back with its output in `tokens`: that output still counts.
TEST(Row, CountsOutputGeneratedBeforeAPreemption) {
  const std::vector<int32_t> history{1, 2, 7, 8};
  AdmissionRecord record = admission(history, {});
  record.num_prompt_tokens = 2;
  Row row;
  row.admit(record, kContextLength);
  EXPECT_EQ(row.append(3), abi::Finish::length);
}

TEST(Row, FinishesWhenTheContextIsFull) {
  const std::vector<int32_t> prompt(kContextLength - 1, 1);
  Row row;
  row.admit(admission(prompt, {}), kContextLength);
  EXPECT_EQ(row.append(3), abi::Finish::length);
}

TEST(Row, AnotherGenerationIsNotRunning) {
  const std::vector<int32_t> prompt{1};
  Row row;
  EXPECT_FALSE(row.is_running(0));
  row.admit(admission(prompt, {}), kContextLength);
  EXPECT_TRUE(row.is_running(5));
  EXPECT_FALSE(row.is_running(4));
}

TEST(Row, KnowsUpToWhereItsPagesReach) {
  const std::vector<int32_t> prompt{1};
  Row row;
  row.admit(admission(prompt, {}), kContextLength);
  EXPECT_FALSE(row.has_pages_until(1));
  row.set_page(1, 30);
  EXPECT_FALSE(row.has_pages_until(1));
  row.set_page(0, 31);
  EXPECT_TRUE(row.has_pages_until(32));
  EXPECT_FALSE(row.has_pages_until(33));
  row.admit(admission(prompt, {}), kContextLength);
  EXPECT_FALSE(row.has_pages_until(1));
}

TEST(Row, CountsTokensOfPromptAndOutputWhenPenaltiesNeedThem) {
  const std::vector<int32_t> prompt{1, 2, 1};
  AdmissionRecord record = admission(prompt, {});
  record.sampling.presence_penalty = 0.5F;
  record.max_tokens = 10;
  Row row;
  row.admit(record, kContextLength);
  row.append(2);
  row.append(6);
  row.append(6);
  const auto& counts = row.token_counts();
  ASSERT_EQ(counts.size(), 3U);
  EXPECT_TRUE(counts.at(1).is_in_prompt);
  EXPECT_EQ(counts.at(1).num_in_output, 0);
  EXPECT_TRUE(counts.at(2).is_in_prompt);
  EXPECT_EQ(counts.at(2).num_in_output, 1);
  EXPECT_FALSE(counts.at(6).is_in_prompt);
  EXPECT_EQ(counts.at(6).num_in_output, 2);
}

}  // namespace
}  // namespace autoglm
