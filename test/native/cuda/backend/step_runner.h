// A loaded model with its step buffers: writes plans, runs them, reads results.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <semaphore>
#include <span>
#include <utility>
#include <vector>

#include "base/cpu_info.h"
#include "emulated_modules.h"
#include "ops/execution.h"
#include "random_model.h"
#include "runtime/load_job.h"
#include "runtime/model.h"
#include "runtime/step_records.h"

namespace autoglm::test {

enum class Place : uint8_t { cpu, gpu };

inline std::shared_ptr<Model> load(LoadRequest request) {
  std::binary_semaphore done(0);
  LoadJob job(1, std::move(request), 1, {.on_progress = [] {}, .on_done = [&done] { done.release(); }});
  done.acquire();
  return job.take_model();
}

inline DeviceChoice fake_device() { return {.library = AUTOGLM_FAKE_CUDA, .modules = emulated_modules()}; }

// Layers before `first_layer` are the processor's.
inline LoadRequest gpu_request(const RandomModel& model, int32_t first_layer) {
  LoadRequest request = model.request();
  request.device = fake_device();
  request.device->stages[0].first_layer = first_layer;
  return request;
}

struct Request {
  RequestKind kind = RequestKind::generate;
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions = {};
  Pooling pooling = Pooling::first;
  int32_t adapter = 0;
  int32_t second_segment = 0;
  int32_t rope_table = 0;
  SamplingParams sampling = {.temperature = 0};
  std::vector<int32_t> stop_tokens = {};
  int32_t max_tokens = 64;
  int32_t num_prompt_tokens = 0;  // 0: all of them
};

class StepRunner {
 public:
  static constexpr int32_t kPagesPerRow = 20;

  StepRunner(const RandomModel& random_model, Place place, KvDtype kv_dtype = KvDtype::bf16)
      : StepRunner([&] {
          LoadRequest request = random_model.request();
          request.kv_dtype = kv_dtype;
          if (place == Place::gpu) request.device = fake_device();
          return request;
        }()) {}
  explicit StepRunner(LoadRequest request) : execution_(pool_, choose_isa(probe_cpu(), "")) {
    for (size_t slot = 0; slot < plans_.size(); ++slot) {
      plans_[slot].resize(1 << 14);
      results_[slot].resize(1 << 14);
      request.plans[slot] = plans_[slot];
      request.results[slot] = results_[slot];
    }
    request.cancel = &cancel_;
    model_ = load(std::move(request));
  }
  ~StepRunner() { pool_.await_stragglers(); }

  Model& model() { return *model_; }
  std::shared_ptr<const Model> shared_model() const { return model_; }
  std::shared_ptr<Model> owned_model() { return model_; }

  // Row `row` gets the request with the next step; its pages are its own.
  void admit(int32_t row, const Request& request) {
    namespace field = abi::Admission;
    std::vector<int32_t> record(abi::kAdmissionWords, 0);
    record[field::row] = row;
    record[field::generation] = ++generation_;
    record[field::kind] = static_cast<int32_t>(request.kind);
    record[field::numTokens] = record[field::numPromptTokens] = static_cast<int32_t>(request.tokens.size());
    if (request.num_prompt_tokens > 0) record[field::numPromptTokens] = request.num_prompt_tokens;
    record[field::maxTokens] = request.max_tokens;
    record[field::numStopTokens] = static_cast<int32_t>(request.stop_tokens.size());
    record[field::numPositions] = static_cast<int32_t>(request.positions.size());
    record[field::outputId] = row + 1;
    record[field::adapter] = request.adapter;
    record[field::pooling] = static_cast<int32_t>(request.pooling);
    record[field::secondSegment] = request.second_segment;
    record[field::ropeTable] = request.rope_table;
    const SamplingParams& sampling = request.sampling;
    record[field::temperature] = std::bit_cast<int32_t>(sampling.temperature);
    record[field::topK] = sampling.top_k;
    record[field::topP] = std::bit_cast<int32_t>(sampling.top_p);
    record[field::minP] = std::bit_cast<int32_t>(sampling.min_p);
    record[field::repetitionPenalty] = std::bit_cast<int32_t>(sampling.repetition_penalty);
    record[field::presencePenalty] = std::bit_cast<int32_t>(sampling.presence_penalty);
    record[field::frequencyPenalty] = std::bit_cast<int32_t>(sampling.frequency_penalty);
    record[field::seedLow] = static_cast<int32_t>(sampling.seed);
    record[field::numLogprobs] = sampling.num_logprobs;
    record.insert(record.end(), request.tokens.begin(), request.tokens.end());
    record.insert(record.end(), request.stop_tokens.begin(), request.stop_tokens.end());
    record.insert(record.end(), request.positions.begin(), request.positions.end());
    record[field::words] = static_cast<int32_t>(record.size());
    admissions_.insert(admissions_.end(), record.begin(), record.end());
    ++num_admissions_;
    if (generations_.size() <= static_cast<size_t>(row)) generations_.resize(static_cast<size_t>(row) + 1);
    generations_[static_cast<size_t>(row)] = generation_;
    for (int32_t page = 0; page < kPagesPerRow; ++page) {
      // Not in order: nothing may depend on neighbouring pages.
      pages_.insert(pages_.end(), {row, page, row * kPagesPerRow + (page * 3 + 5) % kPagesPerRow});
    }
  }

  void compute(int32_t row, int64_t start, int64_t count, bool samples,
               const std::vector<int32_t>& drafts = {}) {
    entries_.insert(entries_.end(), {row, generations_[static_cast<size_t>(row)], static_cast<int32_t>(start),
                                     static_cast<int32_t>(count), samples ? abi::EntryFlags::sample : 0,
                                     static_cast<int32_t>(drafts.size())});
    drafts_.insert(drafts_.end(), drafts.begin(), drafts.end());
  }

  int32_t generation_of(int32_t row) const { return generations_[static_cast<size_t>(row)]; }

  // Writes the plan to `slot`, to be run later.
  void submit(size_t slot) {
    std::vector<int32_t> plan(abi::kPlanHeaderWords, 0);
    const auto append = [&](std::vector<int32_t>& section, int32_t offset_field) {
      plan[static_cast<size_t>(offset_field)] = static_cast<int32_t>(plan.size());
      plan.insert(plan.end(), section.begin(), section.end());
      section.clear();
    };
    plan[abi::PlanHeader::numAdmissions] = std::exchange(num_admissions_, 0);
    plan[abi::PlanHeader::numEntries] = static_cast<int32_t>(entries_.size()) / abi::kEntryWords;
    plan[abi::PlanHeader::numPageUpdates] = static_cast<int32_t>(pages_.size()) / abi::kPageUpdateWords;
    append(admissions_, abi::PlanHeader::admissionsOffset);
    append(entries_, abi::PlanHeader::entriesOffset);
    append(pages_, abi::PlanHeader::pageUpdatesOffset);
    append(drafts_, abi::PlanHeader::draftsOffset);
    plan[abi::PlanHeader::totalWords] = static_cast<int32_t>(plan.size());
    std::ranges::copy(plan, plans_[slot].begin());
  }

  // The step's error code as in the result: 0 or ErrorCode + 1.
  int32_t run_submitted(size_t slot, const Model::NextSlot& next_slot = {}) {
    model_->run_step(static_cast<int>(slot), execution_, next_slot);
    return results_[slot][abi::ResultHeader::errorCode];
  }
  int32_t run() {
    submit(0);
    return run_submitted(0);
  }

  std::span<int32_t> results(size_t slot) { return results_[slot]; }
  int32_t result(size_t index, int32_t field, size_t slot = 0) const {
    return results_[slot][static_cast<size_t>(abi::kResultHeaderWords) + index * abi::Limits::resultRowWords +
                          static_cast<size_t>(field)];
  }
  // The token of the step's `index`th entry, -1 without one.
  int32_t token(size_t index = 0) const {
    return result(index, abi::ResultRow::numTokens) == 1 ? result(index, abi::ResultRow::token) : -1;
  }
  float logprob(size_t index = 0) const {
    return std::bit_cast<float>(result(index, abi::ResultRow::logprob));
  }

  // Logits after every position, computed in chunks of `chunk` tokens and the last `num_single` one by one;
  // empty where a step fails.
  std::vector<float> logits(const std::vector<int32_t>& tokens, int64_t chunk, int64_t num_single = 0,
                            int32_t rope_table = 0) {
    Request request{.kind = RequestKind::logits, .tokens = tokens, .rope_table = rope_table};
    for (int32_t i = 0; i < static_cast<int32_t>(tokens.size()); ++i) request.positions.push_back(i);
    std::vector<float> output(tokens.size() * static_cast<size_t>(model_->spec().vocab_size));
    admit(0, request);
    model_->set_output(1, output);
    const auto count = static_cast<int64_t>(tokens.size());
    for (int64_t start = 0; start < count;) {
      const int64_t left = count - num_single - start;
      const int64_t length = left > 0 ? std::min(chunk, left) : 1;
      compute(0, start, length, false);
      if (run() != 0) return {};
      start += length;
    }
    return output;
  }

  // The answer to a `pool` request in chunks.
  std::vector<float> pooled(Request request, int64_t chunk) {
    request.kind = RequestKind::pool;
    std::vector<float> output(static_cast<size_t>(model_->spec().pooled_size()));
    admit(0, request);
    model_->set_output(1, output);
    const auto count = static_cast<int64_t>(request.tokens.size());
    for (int64_t start = 0; start < count; start += chunk) {
      compute(0, start, std::min(chunk, count - start), false);
      if (run() != 0) return {};
    }
    return output;
  }

  // `count` tokens of one request alone.
  std::vector<int32_t> generate(const Request& request, int64_t count, int64_t chunk = 64) {
    admit(0, request);
    const auto num_prompt = static_cast<int64_t>(request.tokens.size());
    for (int64_t start = 0; start < num_prompt; start += chunk) {
      const int64_t length = std::min(chunk, num_prompt - start);
      compute(0, start, length, start + length == num_prompt);
      if (run() != 0) return {};
    }
    std::vector<int32_t> tokens = {token()};
    while (static_cast<int64_t>(tokens.size()) < count) {
      compute(0, num_prompt + static_cast<int64_t>(tokens.size()) - 1, 1, true);
      if (run() != 0) return {};
      tokens.push_back(token());
    }
    return tokens;
  }

 private:
  std::array<std::vector<int32_t>, abi::Limits::queueDepth> plans_, results_;
  int32_t cancel_ = 0;
  std::vector<int32_t> admissions_, entries_, pages_, drafts_, generations_;
  int32_t num_admissions_ = 0;
  int32_t generation_ = 0;
  ThreadPool pool_{1};
  Execution execution_;
  std::shared_ptr<Model> model_;
};

inline std::vector<int32_t> random_tokens(size_t count, int64_t vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  return tokens;
}

// Distances of the rows of `found` from those of `expected`, relative to the rows' lengths, the largest
// first.
inline std::vector<double> row_distances(std::span<const float> found, std::span<const float> expected,
                                         size_t row_size) {
  if (found.size() != expected.size()) return {std::numeric_limits<double>::infinity()};
  std::vector<double> distances;
  for (size_t first = 0; first < found.size(); first += row_size) {
    double distance = 0;
    double length = 0;
    for (size_t i = first; i < first + row_size; ++i) {
      const double difference = double{found[i]} - double{expected[i]};
      distance += difference * difference;
      length += double{expected[i]} * double{expected[i]};
    }
    const double relative = std::sqrt(distance / length);
    distances.push_back(std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative);
  }
  std::ranges::sort(distances, std::ranges::greater{});
  return distances;
}
inline double worst_row(std::span<const float> found, std::span<const float> expected, size_t row_size) {
  return row_distances(found, expected, row_size).front();
}

inline constexpr double kLogitTolerance = 2e-2;

}  // namespace autoglm::test
