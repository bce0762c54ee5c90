// Random traffic as a scheduler makes it: steps are planned before those queued ahead of them are known.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "step_runner.h"

namespace autoglm::test {

// What a request was given: per token its id and the bits of its logprob.
using Answers = std::map<int32_t, std::vector<std::pair<int32_t, int32_t>>>;

// Requests come, stop by a token or at their limit, are cancelled, and are preempted: their row and its pages
// go to the next one at once, while steps that name them are queued. All choices depend on the seed and on
// what was drawn alone.
class QueuedRequests {
 public:
  static constexpr int32_t kNumRows = 12;
  static constexpr size_t kDepth = 3;
  // So that steps which compute rows in vain choose the same products (gemm.h).
  static constexpr int64_t kMaxStepRows = 56;

  QueuedRequests(StepRunner& runner, uint64_t seed, bool runs_ahead)
      : runner_(runner), random_(seed), runs_ahead_(runs_ahead), rows_(kNumRows) {}

  Answers run(int num_steps) {
    for (int step = 0; step < num_steps; ++step) {
      while (queue_.size() < kDepth) queue_.push_back(plan());
      const Step done = queue_.front();
      queue_.pop_front();
      const Model::NextSlot next = [this] { return std::optional<int>(queue_.front().slot); };
      EXPECT_EQ(runner_.run_submitted(done.slot, runs_ahead_ ? next : Model::NextSlot()), 0)
          << runner_.model().step_failure(static_cast<int>(done.slot));
      num_ahead_ += runner_.model().has_launched_next() ? 1 : 0;
      take(done);
    }
    return answers_;
  }
  // Steps that were launched while the one before ran.
  int num_ahead() const { return num_ahead_; }
  int num_skipped() const { return num_skipped_; }

 private:
  struct Sequence {
    int32_t id = 0;
    Request request;
    std::vector<int32_t> tokens;
    int64_t num_planned = 0;   // positions
    int64_t num_sampling = 0;  // tokens that are being drawn
  };
  struct Entry {
    int32_t row = 0;
    int32_t generation = 0;
    bool samples = false;
  };
  struct Step {
    size_t slot = 0;
    std::vector<Entry> entries;
  };

  bool happens(int percent) { return static_cast<int>(random_() % 100) < percent; }

  Sequence arrival() {
    Sequence sequence;
    sequence.id = ++num_requests_;
    sequence.tokens = random_tokens(1 + random_() % 20, 96, random_());
    Request& request = sequence.request;
    request.num_prompt_tokens = static_cast<int32_t>(sequence.tokens.size());
    request.stop_tokens = {static_cast<int32_t>(random_() % 96), static_cast<int32_t>(random_() % 96)};
    request.max_tokens = static_cast<int32_t>(2 + random_() % 40);
    request.sampling.temperature = happens(70) ? 1.5F : 0.0F;
    request.sampling.seed = random_();
    request.sampling.num_logprobs = static_cast<int32_t>(random_() % 3);
    if (happens(30)) request.sampling.top_k = 20;
    if (happens(3)) request.sampling.repetition_penalty = 1.3F;
    return sequence;
  }

  void fill_row(int32_t row) {
    std::optional<Sequence>& place = rows_[static_cast<size_t>(row)];
    if (place && happens(1)) place.reset();  // cancelled
    if (place && happens(2) && place->num_planned > 0) {
      waiting_.push_back(std::move(*place));
      place.reset();
    }
    if (place) return;
    if (waiting_.empty() || happens(50)) {
      place = arrival();
    } else {
      place = std::move(waiting_.front());
      waiting_.pop_front();
      place->num_planned = place->num_sampling = 0;
    }
    place->request.tokens = place->tokens;
    runner_.admit(row, place->request);
  }

  Step plan() {
    Step step;
    step.slot = next_slot_++ % kDepth;
    int64_t room = kMaxStepRows - kNumRows;
    for (int32_t row = 0; row < kNumRows; ++row) {
      fill_row(row);
      Sequence& sequence = *rows_[static_cast<size_t>(row)];
      const int64_t length = static_cast<int64_t>(sequence.tokens.size()) + sequence.num_sampling;
      // A request whose last token is being drawn has nothing to compute.
      if (length - sequence.request.num_prompt_tokens >= sequence.request.max_tokens) continue;
      const int64_t left = length - sequence.num_planned;
      const int64_t count = left == 1 ? 1 : std::min(left, room);
      if (count == 0) continue;
      if (left > 1) room -= count;
      const bool samples = count == left;
      runner_.compute(row, sequence.num_planned, count, samples);
      sequence.num_planned += count;
      sequence.num_sampling += samples ? 1 : 0;
      step.entries.push_back({row, runner_.generation_of(row), samples});
    }
    runner_.submit(step.slot);
    return step;
  }

  void take(const Step& step) {
    for (size_t i = 0; i < step.entries.size(); ++i) {
      const Entry& entry = step.entries[i];
      const auto field = [&](int32_t at) { return runner_.result(i, at, step.slot); };
      EXPECT_EQ(field(abi::ResultRow::row), entry.row);
      EXPECT_EQ(field(abi::ResultRow::generation), entry.generation);
      num_skipped_ += field(abi::ResultRow::finish) == abi::Finish::skipped ? 1 : 0;
      std::optional<Sequence>& place = rows_[static_cast<size_t>(entry.row)];
      if (!place || runner_.generation_of(entry.row) != entry.generation || !entry.samples) continue;
      EXPECT_EQ(field(abi::ResultRow::numTokens), 1);
      place->num_sampling -= 1;
      place->tokens.push_back(field(abi::ResultRow::token));
      answers_[place->id].emplace_back(place->tokens.back(), field(abi::ResultRow::logprob));
      if (field(abi::ResultRow::finish) != abi::Finish::none) place.reset();
    }
  }

  StepRunner& runner_;
  std::mt19937_64 random_;
  const bool runs_ahead_;
  std::vector<std::optional<Sequence>> rows_;
  std::deque<Sequence> waiting_;
  std::deque<Step> queue_;
  size_t next_slot_ = 0;
  int32_t num_requests_ = 0;
  int num_ahead_ = 0;
  int num_skipped_ = 0;
  Answers answers_;
};

}  // namespace autoglm::test
