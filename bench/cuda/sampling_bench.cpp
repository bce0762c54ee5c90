// G10: tokens drawn from the likeliest 95 % of 32 rows of logits.
#include <algorithm>
#include <cmath>

#include "cuda/sampling/sampling.h"
#include "operations.h"
#include "random_values.h"

namespace autoglm::bench {
namespace {

constexpr float kTopP = 0.95f;
constexpr float kTemperature = 0.8f;

class SamplingCase {
 public:
  SamplingCase(Lab& lab, int32_t num_rows, int32_t vocab_size) : lab_(lab) {
    const int64_t row_stride = cuda::ceil_div(vocab_size, 4) * 4;
    const int64_t logits_bytes = num_rows * row_stride * 4;
    for (int turn = lab.num_turns(logits_bytes); turn > 0; --turn) {
      logits_.push_back(lab.random(logits_bytes, Content::logits));
    }
    std::vector<cuda::SamplingRow> rows(num_rows);
    for (int32_t i = 0; i < num_rows; ++i) {
      rows[i].seed = static_cast<uint64_t>(i) + 1;
      rows[i].top_p = kTopP;
      rows[i].temperature = kTemperature;
      rows[i].num_prompt_tokens = rows[i].num_tokens = 100;
    }
    rows_ = lab.upload(rows);
    out_ = lab.allocate(num_rows * static_cast<int64_t>(sizeof(cuda::SampledRow)));
    args_.layout = cuda::sampling_layout(num_rows, 0, vocab_size);
    workspace_ = lab.zeros(args_.layout.num_bytes);
    args_.rows = rows_.as<cuda::SamplingRow>();
    args_.out = out_.as<cuda::SampledRow>();
    args_.workspace = workspace_.data();
    args_.row_stride = row_stride;
    args_.num_rows = num_rows;
    args_.vocab_size = vocab_size;
    args_.has_drawn_rows = args_.has_limited_rows = true;
  }

  Result run() {
    Result result;
    enqueue(0);
    const auto first = snapshot(lab_, out_);
    result.tolerance = 0.5;
    result.distance = num_wrong();
    result.timing = lab_.measure(static_cast<int>(logits_.size()), [this](int turn) { enqueue(turn); });
    enqueue(0);
    result.is_repeatable = snapshot(lab_, out_) == first;
    return result;
  }

 private:
  void enqueue(int turn) {
    cuda::SamplingArgs args = args_;
    args.logits = logits_[turn].as<float>();
    launch(lab_.stream(), cuda::sampling_scan_launch(args), args);
    launch(lab_.stream(), cuda::sampling_weigh_launch(args), args);
    launch(lab_.stream(), cuda::sampling_limit_launch(args), args);
  }

  // Rows whose token is not one of the likeliest that together have the share, by float64.
  int num_wrong() {
    int count = 0;
    const std::vector<cuda::SampledRow> sampled = lab_.read(args_.out, args_.num_rows);
    for (int32_t row = 0; row < args_.num_rows; ++row) {
      const std::vector<float> logits =
          lab_.read(logits_[0].as<float>() + row * args_.row_stride, args_.vocab_size);
      const int32_t token = sampled[row].token;
      const bool has_token =
          sampled[row].status == cuda::SamplingStatus::fine && token >= 0 && token < args_.vocab_size;
      count += has_token && mass_before(logits, logits[token]) <= kTopP + 1e-6 ? 0 : 1;
    }
    return count;
  }

  static double mass_before(const std::vector<float>& logits, float border) {
    const float largest = std::ranges::max(logits);
    double before = 0;
    double all = 0;
    for (const float each : logits) {
      const double weight = std::exp((double{each} - largest) / kTemperature);
      all += weight;
      if (each > border) before += weight;
    }
    return before / all;
  }

  Lab& lab_;
  std::vector<cuda::DeviceMemory> logits_;
  cuda::DeviceMemory rows_;
  cuda::DeviceMemory out_;
  cuda::DeviceMemory workspace_;
  cuda::SamplingArgs args_;
};

}  // namespace

void measure_sampling(Lab& lab, Results& results) {
  const int32_t num_rows = lab.is_toy() ? 3 : 32;
  const int32_t vocab_size = lab.is_toy() ? 9001 : 128'256;
  Result result = SamplingCase(lab, num_rows, vocab_size).run();
  result.bar = "G10";
  result.what = "top-p of " + std::to_string(num_rows) + " rows of " + std::to_string(vocab_size) + " logits";
  result.value = result.timing.median * 1e6;
  result.unit = "us";
  result.bound = Bound::at_most;
  result.limit = 40;
  results.add(result);
}

}  // namespace autoglm::bench
