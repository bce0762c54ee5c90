#include "runtime/model.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "runtime/result_rows.h"
#include "runtime/step_records.h"

namespace autoglm {
namespace {

int32_t result_code(ErrorCode code) { return static_cast<int32_t>(code) + 1; }  // 0 is success

void write_sample(std::span<int32_t> row, const Sample& sample, int32_t finish) {
  row[abi::ResultRow::numTokens] = 1;
  row[abi::ResultRow::token] = sample.token;
  row[abi::ResultRow::finish] = finish;
  row[abi::ResultRow::logprob] = std::bit_cast<int32_t>(sample.logprob);
  row[abi::ResultRow::numTop] = sample.num_top;
  const auto tops = row.subspan(abi::ResultRow::tops);
  for (int32_t i = 0; i < sample.num_top; ++i) {
    const auto at = static_cast<size_t>(i);
    tops[at] = sample.top[at].token;
    tops[at + abi::Limits::maxLogprobs] = std::bit_cast<int32_t>(sample.top[at].logprob);
  }
}

[[noreturn]] void refuse_entry(const EntryRecord& entry, const std::string& complaint) {
  throw Error(ErrorCode::invalid_parameter, "step plan: positions " + std::to_string(entry.start) + " to " +
                                                std::to_string(entry.start + entry.count) + " of row " +
                                                std::to_string(entry.row) + " " + complaint);
}

}  // namespace

Model::Model(int64_t id, std::unique_ptr<BackEnd> back_end, const Limits& limits, const StepBuffers& buffers)
    : id_(id),
      back_end_(std::move(back_end)),
      plan_limits_{.vocab_size = spec().vocab_size,
                   .context_length = spec().context_length,
                   .num_rows = limits.num_rows,
                   .num_pages = back_end_->num_pages(),
                   .max_step_tokens = limits.max_step_tokens,
                   .num_row_rope_tables = back_end_->num_row_rope_tables(),
                   .num_token_types = spec().embedding.num_token_types,
                   .has_language_head = spec().head.has_value()},
      buffers_(buffers),
      rows_(static_cast<size_t>(limits.num_rows)),
      samples_(static_cast<size_t>(back_end_->max_logit_rows())),
      page_writers_(static_cast<size_t>(back_end_->num_pages())) {
  if (!plan_limits_.has_language_head) return;
  for (int i = 0; i < limits.num_threads; ++i) samplers_.emplace_back(plan_limits_.vocab_size);
}

ModelMemory Model::memory() const {
  ModelMemory memory = back_end_->memory();
  int64_t& scratch_bytes = memory.host.scratch_bytes;
  scratch_bytes += static_cast<int64_t>(page_writers_.size() * sizeof(uint64_t));
  for (const Sampler& sampler : samplers_) scratch_bytes += sampler.scratch_bytes();
  return memory;
}

void Model::set_output(int32_t output_id, std::span<float> buffer) {
  const std::lock_guard lock(outputs_mutex_);
  if (buffer.data() == nullptr) {
    outputs_.erase(output_id);
  } else {
    outputs_[output_id] = buffer;
  }
}

void Model::add_adapter(int32_t adapter_id, std::unique_ptr<const Adapter> adapter) {
  const std::lock_guard lock(adapters_mutex_);
  adapters_[adapter_id] = std::move(adapter);
}

void Model::remove_adapter(int32_t adapter_id) {
  const std::lock_guard lock(adapters_mutex_);
  const auto found = adapters_.find(adapter_id);
  if (found == adapters_.end()) return;
  back_end_->forget_adapter(*found->second);
  adapters_.erase(found);
}

const Adapter* Model::find_adapter(const EntryRecord& entry, int32_t adapter_id) {
  if (adapter_id == 0) return nullptr;
  const std::lock_guard lock(adapters_mutex_);
  const auto found = adapters_.find(adapter_id);
  if (found == adapters_.end())
    refuse_entry(entry, "name adapter " + std::to_string(adapter_id) + ", which is not loaded");
  return found->second.get();
}

std::span<float> Model::find_output(int32_t output_id) {
  const std::lock_guard lock(outputs_mutex_);
  const auto found = outputs_.find(output_id);
  return found == outputs_.end() ? std::span<float>() : found->second;
}

bool Model::run_step(int slot, const Execution& execution, const NextSlot& next_slot) noexcept {
  const auto begin = std::chrono::steady_clock::now();
  const std::span<int32_t> result = buffers_.results[static_cast<size_t>(slot)];
  ErrorCode failure{};
  bool has_failed = true;
  try {
    if (take_ahead(slot)) {
      collect(result, next_slot);
    } else {
      plan_.parse(buffers_.plans[static_cast<size_t>(slot)], plan_limits_);
      execution.pool().set_cancellation(&is_interrupted_);
      const Execution cut = execution.with(plan_.cut());
      execution.pool().use_threads(cut.num_threads());
      execute(result, cut, next_slot);
    }
    has_failed = false;
  } catch (...) {
    failure = note_failure(slot);
    fail_ahead();
  }
  execution.pool().drop();  // whatever a failure left queued
  execution.pool().set_cancellation(nullptr);
  if (is_interrupted_.load(std::memory_order_relaxed)) return false;
  if (has_failed) finish_planned_rows();
  is_steady_ = !has_failed && went_on(result);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  result[abi::ResultHeader::step] = plan_.step();
  result[abi::ResultHeader::errorCode] = has_failed ? result_code(failure) : 0;
  result[abi::ResultHeader::numRows] = has_failed ? 0 : static_cast<int32_t>(plan_.num_result_rows());
  result[abi::ResultHeader::elapsedMicros] = static_cast<int32_t>(
      std::min<int64_t>(INT32_MAX, std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count()));
  return true;
}

bool Model::went_on(std::span<const int32_t> result) const {
  if (!plan_.admissions().empty()) return false;
  return std::ranges::all_of(plan_.entries(), [&](const EntryRecord& entry) {
    const auto row = result_row(result, entry.result_row);
    return entry.samples && entry.count == 1 && row[abi::ResultRow::finish] == abi::Finish::none;
  });
}

// Keeps the text of the exception that is being handled.
ErrorCode Model::note_failure(int slot) noexcept {
  StepFailure& failure = failures_[static_cast<size_t>(slot)];
  try {
    throw;
  } catch (const Error& error) {
    failure.set(error.what());
    return error.code;
  } catch (const std::bad_alloc&) {
    failure.set("the processor's memory is exhausted");
    return ErrorCode::out_of_memory;
  } catch (const std::exception& error) {
    failure.set(error.what());
  } catch (...) {
    failure.set("an exception without a text");
  }
  return ErrorCode::internal;
}

// After a failed step nobody knows what its rows' pages hold: entries planned for them already are skipped.
void Model::finish_planned_rows() noexcept {
  for (const AdmissionRecord& admission : plan_.admissions())
    rows_[static_cast<size_t>(admission.row)].finish();
  for (const EntryRecord& entry : plan_.entries()) {
    Row& row = rows_[static_cast<size_t>(entry.row)];
    if (row.is_running(entry.generation)) row.finish();
  }
}

void Model::begin(std::span<int32_t> result) {
  for (const AdmissionRecord& admission : plan_.admissions()) {
    rows_[static_cast<size_t>(admission.row)].admit(admission, plan_limits_.context_length);
  }
  for (const PageUpdateRecord& update : plan_.page_updates()) {
    rows_[static_cast<size_t>(update.row)].set_page(update.index, update.page);
  }
  activate_entries(result);
}

void Model::execute(std::span<int32_t> result, const Execution& execution, const NextSlot& next_slot) {
  begin(result);
  if (chunks_.empty()) return;
  if (try_launch()) return collect(result, next_slot);
  const Execution deferred = execution.deferred();
  back_end_->forward(deferred, chunks_);
  list_logit_requests();
  answer_logit_requests(result, deferred);
  back_end_->finish(deferred);
  if (!is_interrupted_.load(std::memory_order_relaxed)) answer_pooled_requests(result, execution);
}

// The output buffer of an evaluation must hold its whole answer.
void Model::check_output(const Row& row, std::span<const float> output) const {
  if (row.kind() == RequestKind::generate) return;
  int64_t expected = static_cast<int64_t>(row.positions().size()) * plan_limits_.vocab_size;
  if (row.kind() == RequestKind::score) expected = row.num_tokens() - 1;
  if (row.kind() == RequestKind::pool) expected = spec().pooled_size();
  if (static_cast<int64_t>(output.size()) >= expected) return;
  throw Error(ErrorCode::invalid_parameter, "output " + std::to_string(row.output_id()) + " holds " +
                                                std::to_string(output.size()) + " values, its answer has " +
                                                std::to_string(expected));
}

// Finds the entries that have work to do and writes the result rows of all as if nothing came of them.
void Model::activate_entries(std::span<int32_t> result) {
  active_entries_.clear();
  chunks_.clear();
  ++step_stamp_;
  for (size_t i = 0; i < plan_.entries().size(); ++i) {
    const EntryRecord& entry = plan_.entries()[i];
    Row& row = rows_[static_cast<size_t>(entry.row)];
    const std::span<float> output =
        row.kind() == RequestKind::generate ? std::span<float>() : find_output(row.output_id());
    const bool has_work =
        row.is_running(entry.generation) && (row.kind() == RequestKind::generate || output.data() != nullptr);
    for (size_t j = 0; j <= entry.drafts.size(); ++j) {
      write_unanswered_row(result_row(result, entry.result_row + j), entry,
                           has_work ? abi::Finish::none : abi::Finish::skipped);
    }
    if (!has_work) continue;
    check_entry(entry, row);
    check_output(row, output);
    claim_written_pages(row, entry);
    active_entries_.push_back(
        {.entry_idx = i, .row = &row, .adapter = find_adapter(entry, row.adapter()), .output = output});
  }
  arrange_chunks();
}

// Rows of one adapter lie side by side in the batch, so that its products read them in one piece.
void Model::arrange_chunks() {
  const auto adapter_of = [](const ActiveEntry& each) { return each.row->adapter(); };
  if (!std::ranges::is_sorted(active_entries_, {}, adapter_of))
    std::ranges::stable_sort(active_entries_, {}, adapter_of);
  drafted_tokens_.clear();
  drafted_tokens_.reserve(static_cast<size_t>(plan_limits_.max_step_tokens));  // the chunks point into it
  int64_t num_outputs = 0;
  for (ActiveEntry& active : active_entries_) {
    const EntryRecord& entry = plan_.entries()[active.entry_idx];
    const Row& row = *active.row;
    const int64_t num_unread = first_output(entry, row) - entry.start;
    active.output_start = num_outputs - num_unread;
    chunks_.push_back({.tokens = chunk_tokens(entry, row),
                       .start = entry.start,
                       .page_table = row.page_table(),
                       .rope_table = row.rope_table(),
                       .second_segment = row.second_segment(),
                       .adapter = active.adapter,
                       .num_unread = num_unread,
                       .pending_draw = entry.known_end() > row.num_tokens() ? row.pending_draw() : -1});
    num_outputs += entry.count - num_unread;
  }
}

// The first position of the entry whose logits or hidden state somebody reads; its end if there is none.
int64_t Model::first_output(const EntryRecord& entry, const Row& row) {
  const int64_t end = int64_t{entry.start} + entry.count;
  switch (row.kind()) {
    case RequestKind::generate:
      return entry.samples ? entry.known_end() - 1 : end;
    case RequestKind::logits: {
      const auto at = std::ranges::lower_bound(row.positions(), entry.start);
      return at == row.positions().end() ? end : std::min<int64_t>(*at, end);
    }
    case RequestKind::score:
      return entry.start < row.num_tokens() - 1 ? entry.start : end;
    case RequestKind::pool:
      break;
  }
  return entry.start;
}

// From the row's history, and past its end from the plan.
std::span<const int32_t> Model::chunk_tokens(const EntryRecord& entry, const Row& row) {
  static constexpr int32_t kPending[] = {0};
  if (entry.known_end() > row.num_tokens()) return kPending;
  const auto known = row.tokens().subspan(static_cast<size_t>(entry.start),
                                          static_cast<size_t>(entry.known_end() - entry.start));
  if (entry.drafts.empty()) return known;
  const size_t first = drafted_tokens_.size();
  drafted_tokens_.insert(drafted_tokens_.end(), known.begin(), known.end());
  drafted_tokens_.insert(drafted_tokens_.end(), entry.drafts.begin(), entry.drafts.end());
  return std::span<const int32_t>(drafted_tokens_).subspan(first);
}

void Model::check_entry(const EntryRecord& entry, const Row& row) const {
  const int64_t end = int64_t{entry.start} + entry.count;
  if (entry.known_end() > row.num_planned_tokens())
    refuse_entry(entry, "lie past its " + std::to_string(row.num_tokens()) + " tokens");
  if (!row.has_pages_until(end)) refuse_entry(entry, "have no page");
  if (spec().is_bidirectional() && (entry.start != 0 || end != row.num_tokens()))
    refuse_entry(entry, "are a part of an input that must be computed whole");
  if (row.kind() == RequestKind::pool && entry.start > 0 && row.pooled_sum().empty())
    refuse_entry(entry, "leave out the beginning of a pooled input");
  if (!entry.samples) return;
  if (row.kind() != RequestKind::generate)
    refuse_entry(entry, "belong to an evaluation, which samples nothing");
  if (entry.known_end() != row.num_planned_tokens())
    refuse_entry(entry, "sample before the end of its tokens");
}

// Two rows that write one page in one step would race: only a broken plan says so.
void Model::claim_written_pages(const Row& row, const EntryRecord& entry) {
  const int64_t last = (int64_t{entry.start} + entry.count - 1) / abi::Limits::pageSize;
  for (int64_t index = entry.start / abi::Limits::pageSize; index <= last; ++index) {
    const int32_t page = row.page_table()[static_cast<size_t>(index)];
    uint64_t& writer = page_writers_[static_cast<size_t>(page)];
    if (writer == step_stamp_)
      refuse_entry(entry, "write page " + std::to_string(page) + ", as does another row");
    writer = step_stamp_;
  }
}

void Model::list_logit_requests() {
  logit_requests_.clear();
  pooled_requests_.clear();
  for (size_t i = 0; i < active_entries_.size(); ++i) {
    const ActiveEntry& active = active_entries_[i];
    const EntryRecord& entry = plan_.entries()[active.entry_idx];
    const int64_t end = int64_t{entry.start} + entry.count;
    const auto add = [&](int64_t position, int64_t output_idx) {
      logit_requests_.push_back(
          {.active_idx = i,
           .output_row = static_cast<int32_t>(active.output_start + position - entry.start),
           .position = position,
           .output_idx = output_idx});
    };
    switch (active.row->kind()) {
      case RequestKind::generate:
        if (!entry.samples) break;
        for (size_t j = 0; j <= entry.drafts.size(); ++j)
          add(entry.known_end() - 1 + static_cast<int64_t>(j), static_cast<int64_t>(j));
        break;
      case RequestKind::logits: {
        const auto positions = active.row->positions();
        auto at = std::ranges::lower_bound(positions, entry.start);
        for (; at != positions.end() && *at < end; ++at) add(*at, at - positions.begin());
        break;
      }
      case RequestKind::score:
        for (int64_t position = entry.start; position < std::min(end, active.row->num_tokens() - 1);
             ++position) {
          add(position, position);
        }
        break;
      case RequestKind::pool:
        if (entry.start == 0) active.row->begin_pooling(spec().hidden_size);
        pooled_requests_.add({.entry_idx = active.entry_idx,
                              .row = active.row,
                              .first_output = active.output_start,
                              .start = entry.start,
                              .count = entry.count,
                              .output = active.output});
        break;
    }
  }
}

// A few rows of logits at a time, so that long evaluations and wide batches need little memory.
void Model::answer_logit_requests(std::span<int32_t> result, const Execution& execution) {
  const int64_t rows_at_once = std::max<int64_t>(1, back_end_->max_logit_rows());
  for (size_t first = 0; first < logit_requests_.size(); first += static_cast<size_t>(rows_at_once)) {
    const auto requests =
        std::span<const LogitRequest>(logit_requests_)
            .subspan(first, std::min(static_cast<size_t>(rows_at_once), logit_requests_.size() - first));
    if (can_draw(requests)) {
      draw(requests);
    } else {
      sample(requests, execution);
    }
    if (is_interrupted_.load(std::memory_order_relaxed)) return;
    for (size_t i = 0; i < requests.size(); ++i) record(requests[i], samples_[i], result);
  }
}

// On the pool's threads, from logits in the host's memory.
void Model::sample(std::span<const LogitRequest> requests, const Execution& execution) {
  output_rows_.clear();
  for (const LogitRequest& request : requests) output_rows_.push_back(request.output_row);
  const TensorView<float> all_logits = back_end_->compute_logits(execution, output_rows_);
  // Waits for all that is queued: what was sampled decides what is recorded.
  execution.pool().run(static_cast<int64_t>(requests.size()), [&](int64_t i, int worker) {
    const std::span<float> logits(all_logits.row(i), static_cast<size_t>(plan_limits_.vocab_size));
    samples_[static_cast<size_t>(i)] =
        answer(requests[static_cast<size_t>(i)], logits, samplers_[static_cast<size_t>(worker)]);
  });
}

void Model::answer_pooled_requests(std::span<int32_t> result, const Execution& execution) {
  pooled_requests_.answer(execution, *back_end_);
  for (const PooledChunk& chunk : pooled_requests_.chunks()) {
    if (!chunk.is_numeric_error) continue;
    const size_t row_idx = plan_.entries()[chunk.entry_idx].result_row;
    result_row(result, row_idx)[abi::ResultRow::finish] = abi::Finish::numericError;
    chunk.row->finish();
  }
}

// On a thread of the pool: draws a token, or writes an evaluation's logits or score to its output.
Sample Model::answer(const LogitRequest& request, std::span<float> logits, Sampler& sampler) const {
  const ActiveEntry& active = active_entries_[request.active_idx];
  Sample sample;
  if (active.row->kind() == RequestKind::generate) {
    if (active.is_settled) return sample;
    // Drafts that an earlier part of the step has proved right are in the row's history.
    const auto& drafts = plan_.entries()[active.entry_idx].drafts;
    const size_t num_unproved = static_cast<size_t>(request.output_idx) - active.num_sampled;
    return sampler.sample(*active.row, drafts.subspan(active.num_sampled, num_unproved), logits);
  }
  const double normalizer = log_sum_exp(logits);
  sample.is_numeric_error = std::isnan(normalizer);
  if (active.row->kind() == RequestKind::score) {
    const int32_t next = active.row->tokens()[static_cast<size_t>(request.position + 1)];
    active.output[static_cast<size_t>(request.output_idx)] =
        static_cast<float>(logits[static_cast<size_t>(next)] - normalizer);
  } else {
    std::ranges::copy(logits, active.output.begin() + request.output_idx * plan_limits_.vocab_size);
  }
  return sample;
}

// Tokens come in order. A draft counts only while it equals what was sampled in its place, so the sequence is
// the one that steps of a single token would have made.
void Model::record(const LogitRequest& request, const Sample& sample, std::span<int32_t> result) {
  ActiveEntry& active = active_entries_[request.active_idx];
  const EntryRecord& entry = plan_.entries()[active.entry_idx];
  const auto num_drafts = static_cast<size_t>(request.output_idx);
  if (active.row->kind() != RequestKind::generate) {
    if (!sample.is_numeric_error) return;
    result_row(result, entry.result_row)[abi::ResultRow::finish] = abi::Finish::numericError;
    active.row->finish();
    return;
  }
  if (active.is_settled) return;
  if (sample.is_numeric_error) {
    active.is_settled = true;
    if (num_drafts > 0) return;  // the next step meets it again, as the first of its tokens
    result_row(result, entry.result_row)[abi::ResultRow::finish] = abi::Finish::numericError;
    active.row->finish();
    return;
  }
  const int32_t finish = active.row->append(sample.token);
  write_sample(result_row(result, entry.result_row + num_drafts), sample, finish);
  active.num_sampled += 1;
  const bool is_last = num_drafts == entry.drafts.size() || entry.drafts[num_drafts] != sample.token;
  active.is_settled = is_last || finish != abi::Finish::none;
}

}  // namespace autoglm
