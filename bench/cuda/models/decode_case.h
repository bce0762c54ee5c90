// A whole model on the device, driven through the engine's queue as the package drives it, but from C++.
#pragma once

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "models/step_marks.h"
#include "models/step_times.h"
#include "models/synthetic_model.h"
#include "plan_writer.h"
#include "runtime/engine.h"

namespace autoglm::bench {

// Sequences that are prefilled, then decoded together by greedy choice.
struct Workload {
  int32_t num_sequences = 1;
  int32_t prompt_len = 1;
  int32_t num_steps = 0;  // of decoding: none, or at least 2
};

struct RunTimes {
  double prefill = 0;      // seconds of all prompts, first tokens included
  double step = 0;         // seconds of a step of decoding
  double cpu_of_step = 0;  // seconds of the engine thread, which sleeps while the device computes
  StepGaps gaps;           // of runs with marks
  std::vector<int32_t> tokens;
};

class DecodeCase {
 public:
  // `largest`: the workload that needs most memory. Throws out_of_memory.
  DecodeCase(Lab& lab, const ModelShape& shape, WeightForm form, const Workload& largest);
  ~DecodeCase();
  DecodeCase(const DecodeCase&) = delete;
  DecodeCase& operator=(const DecodeCase&) = delete;

  // Throws internal when a step fails, with what it said, a sequence ends early or a mark was not set.
  RunTimes run(const Workload& workload, bool sets_marks = false);
  // Bytes of weights that a step of one sequence reads.
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  void load(Lab& lab, WeightForm form);
  void note(int slot, bool has_more);
  PlanWriter prefill_plan(const Workload& workload, int32_t first_row, int32_t num_rows) const;
  PlanWriter decode_plan(const Workload& workload, int32_t step) const;
  void submit(const PlanWriter& plan);
  void wait_for_notices(size_t count);

  ModelShape shape_;
  DecoderSpec spec_;
  Workload largest_;
  int32_t pages_per_row_;
  int64_t weight_bytes_ = 0;
  int32_t generation_ = 0;

  std::array<std::vector<int32_t>, abi::Limits::queueDepth> plans_, results_;
  std::shared_ptr<Model> model_;
  size_t num_submitted_ = 0;

  std::mutex mutex_;
  std::condition_variable has_notices_;
  std::vector<StepNotice> notices_;  // of the run's steps, in order
  std::vector<int32_t> tokens_;      // of the run, in the order of the results
  std::string failure_;              // the first one's
  std::unique_ptr<Engine> engine_;   // last: its thread uses all of the above
};

}  // namespace autoglm::bench
