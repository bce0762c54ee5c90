// Steps of a Model whose tokens the back end draws. They are launched whole, and while one runs the next one
// is launched behind it: rows whose token is still to be drawn name its draw instead. A step that cannot be
// launched is run when its turn comes, as is one whose launch has failed: what the attempt did is done again.
#include <algorithm>
#include <exception>
#include <utility>

#include "runtime/model.h"
#include "runtime/result_rows.h"

namespace autoglm {

// A back end draws what no guess depends on.
bool Model::can_draw(std::span<const LogitRequest> requests) const {
  return back_end_->can_draw() && std::ranges::all_of(requests, [this](const LogitRequest& request) {
           const ActiveEntry& active = active_entries_[request.active_idx];
           return active.row->kind() == RequestKind::generate && active.row->has_distinct_biases() &&
                  plan_.entries()[active.entry_idx].drafts.empty();
         });
}

void Model::list_draw_requests(std::span<const LogitRequest> requests) {
  draw_requests_.clear();
  for (const LogitRequest& request : requests) {
    const ActiveEntry& active = active_entries_[request.active_idx];
    const Row& row = *active.row;
    draw_requests_.push_back({.output_row = request.output_row,
                              .tokens = row.tokens(),
                              .has_pending_token = row.pending_draw() >= 0,
                              .num_prompt_tokens = row.num_prompt_tokens(),
                              .sampling = &row.sampling(),
                              .logit_bias = row.logit_bias()});
  }
}

void Model::draw(std::span<const LogitRequest> requests) {
  list_draw_requests(requests);
  drawn_tokens_.resize(requests.size());
  back_end_->draw(draw_requests_, drawn_tokens_);
  take_drawn_tokens();
}

void Model::take_drawn_tokens() {
  static_assert(DrawnToken::kMaxTops == abi::Limits::maxLogprobs);
  for (size_t i = 0; i < drawn_tokens_.size(); ++i) {
    const DrawnToken& drawn = drawn_tokens_[i];
    Sample& sample = samples_[i];
    sample = {.token = drawn.token,
              .is_numeric_error = drawn.is_numeric_error,
              .logprob = drawn.logprob,
              .num_top = drawn.num_top};
    for (size_t top = 0; top < static_cast<size_t>(drawn.num_top); ++top)
      sample.top[top] = {.token = drawn.top_tokens[top], .logprob = drawn.top_logprobs[top]};
  }
}

// False where the entries are to be computed in another way; then nothing has been queued.
bool Model::try_launch() {
  if (!back_end_->can_run_ahead()) return false;
  const bool generates = std::ranges::all_of(
      active_entries_, [](const ActiveEntry& active) { return active.row->kind() == RequestKind::generate; });
  if (!generates) return false;
  list_logit_requests();
  if (logit_requests_.size() > samples_.size() || !can_draw(logit_requests_)) return false;
  list_draw_requests(logit_requests_);
  back_end_->launch(chunks_, draw_requests_);
  return true;
}

// Whether an entry goes on from the token that is to be drawn for its row, or does not depend on it.
// Penalties count the tokens of a history that the host has.
bool Model::awaits_no_token(const ActiveEntry& active) const {
  const Row& row = *active.row;
  if (row.pending_draw() < 0) return true;
  const EntryRecord& entry = plan_.entries()[active.entry_idx];
  return entry.start == row.num_tokens() && entry.count == 1 && !row.sampling().has_penalties();
}

// The rows of the running step that get a token from it: nothing but that draw is known of the token.
void Model::mark_pending_draws(bool is_pending) noexcept {
  for (size_t i = 0; i < logit_requests_.size(); ++i) {
    const ActiveEntry& active = active_entries_[logit_requests_[i].active_idx];
    const int32_t generation = plan_.entries()[active.entry_idx].generation;
    if (active.row->is_running(generation))
      active.row->set_pending_draw(is_pending ? static_cast<int32_t>(i) : -1);
  }
}

void Model::exchange_ahead() noexcept {
  std::swap(plan_, ahead_.plan);
  std::swap(active_entries_, ahead_.active_entries);
  std::swap(logit_requests_, ahead_.logit_requests);
}

// Launches the next step behind the one that was launched, where that can be done.
void Model::launch_next(const NextSlot& next_slot) noexcept {
  mark_pending_draws(true);
  exchange_ahead();
  try {
    if (const std::optional<int> slot = next_slot(); slot && launch_behind(*slot)) ahead_.slot = slot;
  } catch (...) {  // NOLINT(bugprone-empty-catch): its own turn meets the failure again, and reports it
  }
  exchange_ahead();
  mark_pending_draws(false);
}

bool Model::launch_behind(int slot) {
  plan_.parse(buffers_.plans[static_cast<size_t>(slot)], plan_limits_);
  // Whose place is taken still gets its token first.
  const bool replaces = std::ranges::any_of(plan_.admissions(), [this](const AdmissionRecord& admission) {
    return rows_[static_cast<size_t>(admission.row)].pending_draw() >= 0;
  });
  if (replaces) return false;
  begin(buffers_.results[static_cast<size_t>(slot)]);
  const bool is_ready = std::ranges::all_of(
      active_entries_, [this](const ActiveEntry& active) { return awaits_no_token(active); });
  return is_ready && !active_entries_.empty() && try_launch();
}

// Whether the step in `slot` is launched already; it becomes the one in progress. Throws the failure of the
// step before it: nobody knows what it was computed from.
bool Model::take_ahead(int slot) {
  if (ahead_.slot != slot) return false;
  ahead_.slot.reset();
  exchange_ahead();
  if (ahead_.failure) std::rethrow_exception(std::exchange(ahead_.failure, nullptr));
  return true;
}

// On a failure, within its handler.
void Model::fail_ahead() noexcept {
  if (ahead_.slot) ahead_.failure = std::current_exception();
  back_end_->drop_launched();
}

// Waits for the step in progress, which was launched. Rows that ended with the step before are as if they had
// been skipped.
void Model::collect(std::span<int32_t> result, const NextSlot& next_slot) {
  if (next_slot) launch_next(next_slot);
  drawn_tokens_.resize(logit_requests_.size());
  back_end_->collect(drawn_tokens_);
  if (is_interrupted_.load(std::memory_order_relaxed)) return;
  take_drawn_tokens();
  for (size_t i = 0; i < logit_requests_.size(); ++i) {
    const ActiveEntry& active = active_entries_[logit_requests_[i].active_idx];
    const EntryRecord& entry = plan_.entries()[active.entry_idx];
    if (active.row->is_running(entry.generation)) {
      record(logit_requests_[i], samples_[i], result);
    } else {
      write_unanswered_row(result_row(result, entry.result_row), entry, abi::Finish::skipped);
    }
  }
}

}  // namespace autoglm
