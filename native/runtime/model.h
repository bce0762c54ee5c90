// A loaded model as the engine thread sees it: who computes it, rows, and the memory shared with its
// scheduler.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "model/back_end.h"
#include "ops/execution.h"
#include "runtime/pooled_requests.h"
#include "runtime/row.h"
#include "runtime/sampler.h"
#include "runtime/step_failure.h"
#include "runtime/step_plan.h"
#include "runtime/step_records.h"

namespace autoglm {

struct StepBuffers {
  std::array<std::span<const int32_t>, abi::Limits::queueDepth> plans;  // by slot
  std::array<std::span<int32_t>, abi::Limits::queueDepth> results;
};

class Model {
 public:
  struct Limits {
    int64_t num_rows = 0;
    int64_t max_step_tokens = 0;
    int num_threads = 1;
  };

  Model(int64_t id, std::unique_ptr<BackEnd> back_end, const Limits& limits, const StepBuffers& buffers);

  int64_t id() const { return id_; }
  ModelMemory memory() const;
  const DecoderSpec& spec() const { return back_end_->spec(); }
  const DecoderWeights& weights() const { return back_end_->weights(); }

  // Any thread. The running step ends at its next stage and later ones do nothing.
  void interrupt() { is_interrupted_.store(true, std::memory_order_relaxed); }

  // Any thread: where an evaluation request's answer goes; an empty span forgets it. A running step may go on
  // writing to a forgotten buffer until it has been reported.
  void set_output(int32_t output_id, std::span<float> buffer);

  // Any thread: from the next step on rows may name the adapter.
  void add_adapter(int32_t adapter_id, std::unique_ptr<const Adapter> adapter);
  // The engine thread only, between steps, when no thread reads what the last one was given.
  void remove_adapter(int32_t adapter_id);

  // Which slot's plan is executed next, if that is known; asked while the step of this one runs.
  using NextSlot = std::function<std::optional<int>()>;
  // The engine thread only. Executes the plan in `slot` and writes its result; every failure becomes the
  // result's error code. False when the model was interrupted: then nothing is to be reported. The step that
  // `next_slot` names may have been launched when the call returns (run_ahead.cpp), and is the next to be
  // run.
  bool run_step(int slot, const Execution& execution, const NextSlot& next_slot = {}) noexcept;
  // Whether the next step is launched already.
  bool has_launched_next() const { return ahead_.slot.has_value(); }
  // Whether the last step only drew one more token for each of its sequences, and all of them go on.
  bool is_steady() const { return is_steady_; }

  // Any thread: what went wrong with the last step in `slot` that failed, at most 1 KiB; empty without one.
  std::string step_failure(int slot) const { return failures_[static_cast<size_t>(slot)].text(); }

 private:
  // A plan entry whose row is running, with its place in the batch.
  struct ActiveEntry {
    size_t entry_idx = 0;
    Row* row = nullptr;
    int64_t output_start = 0;  // the step's output that the entry's first position is or would be
    size_t num_sampled = 0;    // tokens of this step appended to the row
    bool is_settled = false;   // a draft was refused or the request has ended: later ones are not looked at
    const Adapter* adapter = nullptr;
    std::span<float> output;  // evaluations only
  };
  // One row of logits that somebody wants.
  struct LogitRequest {
    size_t active_idx = 0;
    int32_t output_row = 0;
    int64_t position = 0;
    // Evaluations: index of the answer in the output buffer, in rows of logits or in scores. Generation:
    // drafts before the token to be sampled.
    int64_t output_idx = 0;
  };

  // A step that was launched behind the one that runs, until its turn comes.
  struct LaunchedStep {
    std::optional<int> slot;
    std::exception_ptr failure;  // of the step before
    StepPlan plan;
    std::vector<ActiveEntry> active_entries;
    std::vector<LogitRequest> logit_requests;
  };

  void execute(std::span<int32_t> result, const Execution& execution, const NextSlot& next_slot);
  void begin(std::span<int32_t> result);
  void check_output(const Row& row, std::span<const float> output) const;
  void activate_entries(std::span<int32_t> result);
  void arrange_chunks();
  std::span<const int32_t> chunk_tokens(const EntryRecord& entry, const Row& row);
  static int64_t first_output(const EntryRecord& entry, const Row& row);
  void check_entry(const EntryRecord& entry, const Row& row) const;
  void claim_written_pages(const Row& row, const EntryRecord& entry);
  void list_logit_requests();
  void answer_logit_requests(std::span<int32_t> result, const Execution& execution);
  void answer_pooled_requests(std::span<int32_t> result, const Execution& execution);
  bool went_on(std::span<const int32_t> result) const;
  bool can_draw(std::span<const LogitRequest> requests) const;
  void list_draw_requests(std::span<const LogitRequest> requests);
  void draw(std::span<const LogitRequest> requests);
  void take_drawn_tokens();
  bool try_launch();
  bool awaits_no_token(const ActiveEntry& active) const;
  bool launch_behind(int slot);
  void launch_next(const NextSlot& next_slot) noexcept;
  void mark_pending_draws(bool is_pending) noexcept;
  void exchange_ahead() noexcept;
  bool take_ahead(int slot);
  void fail_ahead() noexcept;
  void collect(std::span<int32_t> result, const NextSlot& next_slot);
  void sample(std::span<const LogitRequest> requests, const Execution& execution);
  Sample answer(const LogitRequest& request, std::span<float> logits, Sampler& sampler) const;
  void record(const LogitRequest& request, const Sample& sample, std::span<int32_t> result);
  ErrorCode note_failure(int slot) noexcept;
  void finish_planned_rows() noexcept;
  std::span<float> find_output(int32_t output_id);
  const Adapter* find_adapter(const EntryRecord& entry, int32_t adapter_id);

  const int64_t id_;
  std::unique_ptr<BackEnd> back_end_;
  PlanLimits plan_limits_;
  StepBuffers buffers_;
  std::array<StepFailure, std::tuple_size_v<decltype(StepBuffers::results)>> failures_;
  std::atomic<bool> is_interrupted_{false};
  bool is_steady_ = false;
  std::vector<Row> rows_;
  std::vector<Sampler> samplers_;  // one per thread of the pool

  // Scratch of one step.
  StepPlan plan_;
  std::vector<ActiveEntry> active_entries_;
  std::vector<SequenceChunk> chunks_;
  std::vector<int32_t> drafted_tokens_;  // the tokens of chunks that go past their row's history
  std::vector<LogitRequest> logit_requests_;
  PooledRequests pooled_requests_;
  std::vector<int32_t> output_rows_;
  std::vector<DrawRequest> draw_requests_;
  std::vector<DrawnToken> drawn_tokens_;
  std::vector<Sample> samples_;
  LaunchedStep ahead_;
  std::vector<uint64_t> page_writers_;  // [num_pages], the last step that wrote the page
  uint64_t step_stamp_ = 0;

  std::mutex adapters_mutex_;
  std::unordered_map<int32_t, std::unique_ptr<const Adapter>> adapters_;
  std::mutex outputs_mutex_;
  std::unordered_map<int32_t, std::span<float>> outputs_;
};

}  // namespace autoglm
