// G1 to G3: attention of bf16 pages whose order in memory is random.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/half.h"
#include "cuda/attention/attention.h"
#include "operations.h"
#include "random_values.h"

namespace autoglm::bench {
namespace {

struct AttentionShape {
  int64_t num_sequences = 1;
  int64_t start = 0;  // tokens of earlier steps
  int64_t count = 1;  // tokens of this step
  int32_t num_q_heads = 32;
  int32_t num_kv_heads = 8;
  int32_t head_dim = 128;
  bool is_causal = true;

  int64_t seq_len() const { return start + count; }
  int64_t num_rows() const { return num_sequences * count; }
  int64_t pages_of_sequence() const { return cuda::ceil_div(seq_len(), cuda::kPageTokens); }
  cuda::KvLayout layout() const { return {num_kv_heads, head_dim, cuda::KvType::bf16, false}; }
  int64_t kv_bytes() const { return num_sequences * seq_len() * num_kv_heads * head_dim * 2 * 2; }
  int64_t query_bytes() const { return num_rows() * num_q_heads * head_dim * 2; }
  // Two products of 2 flops for each query, head, dim and key that it sees.
  double flops() const {
    const auto keys = static_cast<double>(seq_len());
    const double seen = is_causal ? (keys + static_cast<double>(start) + 1) / 2 : keys;
    return 4.0 * static_cast<double>(num_rows()) * seen * num_q_heads * head_dim;
  }
};

class AttentionCase {
 public:
  AttentionCase(Lab& lab, const AttentionShape& shape)
      : lab_(lab), shape_(shape), num_turns_(lab.num_turns(shape.kv_bytes())) {
    test::Random random(1);
    tables_.resize(shape.num_sequences * shape.pages_of_sequence());
    std::iota(tables_.begin(), tables_.end(), 0);
    for (size_t i = tables_.size(); i > 1; --i) std::swap(tables_[i - 1], tables_[random.below(i)]);
    std::vector<SequenceSlice> slices;
    std::vector<int64_t> offsets;
    for (int64_t i = 0; i < shape.num_sequences; ++i) {
      slices.push_back({nullptr, i * shape.count, shape.start, shape.count});
      offsets.push_back(i * shape.pages_of_sequence());
    }
    const cuda::AttentionPlan plan =
        cuda::plan_attention(slices, offsets,
                             {.heads_per_group = shape.num_q_heads / shape.num_kv_heads,
                              .prefill_pairs = cuda::prefill_pairs(shape.head_dim, false),
                              .is_causal = shape.is_causal});
    is_decode_ = plan.prefill.empty();
    const std::vector<cuda::AttentionWork>& work = is_decode_ ? plan.decode : plan.prefill;
    table_memory_ = lab.upload(tables_);
    work_memory_ = lab.upload(work);
    q_ = lab.random(shape.query_bytes(), Content::small_bf16);
    out_ = lab.allocate(shape.query_bytes());
    const int64_t tiles = int64_t{plan.num_partials} * shape.num_kv_heads;
    partials_ = lab.allocate(tiles * cuda::kDecodePairs * (shape.head_dim + 2) * 4);
    tickets_ = lab.zeros(tiles * 4);
    const auto page_bytes = static_cast<int64_t>(tables_.size()) * shape.layout().page_bytes();
    for (int turn = 0; turn < num_turns_; ++turn) pages_.push_back(lab.random(page_bytes, Content::bf16));
    args_ = {.q = q_.as<cuda::Bf16>(),
             .page_tables = table_memory_.as<int32_t>(),
             .work = work_memory_.as<cuda::AttentionWork>(),
             .partials = partials_.as<float>(),
             .tickets = tickets_.as<uint32_t>(),
             .out = out_.as<cuda::Bf16>(),
             .num_work = static_cast<int32_t>(work.size()),
             .num_q_heads = shape.num_q_heads,
             .num_kv_heads = shape.num_kv_heads,
             .head_dim = shape.head_dim,
             .value_dim = shape.head_dim,
             .is_causal = shape.is_causal};
  }

  // Times, distance from float64 and repeatability; the figure and its bound are the caller's.
  Result run() {
    Result result;
    enqueue(0);
    const std::vector<std::byte> first = snapshot(lab_, out_);
    result.tolerance = kBf16Tolerance;
    result.distance = distance();
    result.timing = lab_.measure(num_turns_, [this](int turn) { enqueue(turn); });
    enqueue(0);
    result.is_repeatable = snapshot(lab_, out_) == first;
    return result;
  }

 private:
  void enqueue(int turn) {
    cuda::AttentionArgs args = args_;
    args.pages = pages_[turn].as<uint8_t>();
    launch(lab_.stream(), is_decode_ ? cuda::decode_launch(args) : cuda::prefill_launch(args), args);
  }

  // The largest of some rows and heads.
  double distance() {
    test::Random random(2);
    double largest = 0;
    for (int i = 0; i < 6; ++i) {
      const int64_t row = i == 0 ? shape_.num_rows() - 1 : random.below(shape_.num_rows());
      const double each = distance_of(row, random.below(shape_.num_q_heads));
      largest = each <= largest ? largest : each;  // keeps a NaN
    }
    return largest;
  }

  double distance_of(int64_t row, int64_t head) {
    const int64_t dim = shape_.head_dim;
    const int64_t sequence = row / shape_.count;
    const int64_t position = shape_.start + row % shape_.count;
    const int64_t num_keys = shape_.is_causal ? position + 1 : shape_.seq_len();
    const int64_t at = (row * shape_.num_q_heads + head) * dim;
    const auto q = lab_.read(q_.as<uint16_t>() + at, dim);
    const auto found = lab_.read(out_.as<uint16_t>() + at, dim);
    const cuda::KvLayout layout = shape_.layout();
    const auto kv_head = static_cast<int>(head / (shape_.num_q_heads / shape_.num_kv_heads));
    std::vector<double> sums(dim);
    double weights = 0;
    std::vector<uint8_t> page;
    for (int64_t key = 0; key < num_keys; ++key) {
      if (key % cuda::kPageTokens == 0) {
        const int32_t number = tables_[sequence * shape_.pages_of_sequence() + key / cuda::kPageTokens];
        page = lab_.read(pages_[0].as<uint8_t>() + layout.head_offset(number, kv_head), layout.head_bytes());
      }
      const auto value = [&](int64_t offset, int64_t i) {
        uint16_t bits;
        const auto slot = static_cast<int>(key % cuda::kPageTokens);
        std::memcpy(&bits, &page[offset + layout.offset_in_tile(slot, static_cast<int>(i))], 2);
        return double{bf16_to_float(bits)};
      };
      double score = 0;
      for (int64_t i = 0; i < dim; ++i) score += double{bf16_to_float(q[i])} * value(0, i);
      const double weight = std::exp2(score);  // scores are some units: no maximum is needed in float64
      weights += weight;
      for (int64_t i = 0; i < dim; ++i) sums[i] += weight * value(layout.value_offset(), i);
    }
    Distance distance;
    for (int64_t i = 0; i < dim; ++i) distance.add(bf16_to_float(found[i]), sums[i] / weights);
    return distance.value();
  }

  Lab& lab_;
  AttentionShape shape_;
  int num_turns_;
  bool is_decode_ = false;
  std::vector<int32_t> tables_;
  std::vector<cuda::DeviceMemory> pages_;
  cuda::DeviceMemory table_memory_;
  cuda::DeviceMemory work_memory_;
  cuda::DeviceMemory q_;
  cuda::DeviceMemory out_;
  cuda::DeviceMemory partials_;
  cuda::DeviceMemory tickets_;
  cuda::AttentionArgs args_;
};

std::string describe(const AttentionShape& shape) {
  return std::to_string(shape.num_sequences) + " x " + std::to_string(shape.seq_len()) + " tokens, " +
         std::to_string(shape.num_q_heads) + "/" + std::to_string(shape.num_kv_heads) + " heads of " +
         std::to_string(shape.head_dim);
}

}  // namespace

void measure_decode_attention(Lab& lab, const Ceilings& ceilings, Results& results) {
  const AttentionShape many =
      lab.is_toy() ? AttentionShape{.num_sequences = 2, .start = 299, .num_q_heads = 8, .num_kv_heads = 2}
                   : AttentionShape{.num_sequences = 32, .start = 4095};
  Result batch = AttentionCase(lab, many).run();
  const double bytes = static_cast<double>(many.kv_bytes() + 2 * many.query_bytes());
  batch.bar = "G1";
  batch.what = "decode attention, " + describe(many);
  batch.value = 100 * bytes / batch.timing.median / ceilings.copy_rate;
  batch.unit = "% copy";
  batch.bound = Bound::at_least;
  batch.limit = 75;
  batch.aside = {{"TB/s", bytes / batch.timing.median * 1e-12}};
  results.add(batch);

  const AttentionShape one = lab.is_toy()
                                 ? AttentionShape{.start = 599, .num_q_heads = 16, .num_kv_heads = 2}
                                 : AttentionShape{.start = 8191, .num_q_heads = 64, .num_kv_heads = 8};
  Result single = AttentionCase(lab, one).run();
  single.bar = "G2";
  single.what = "decode attention, " + describe(one);
  single.value = single.timing.median * 1e6;
  single.unit = "us";
  single.bound = Bound::at_most;
  single.limit = 30;
  single.aside = {{"TB/s", static_cast<double>(one.kv_bytes()) / single.timing.median * 1e-12}};
  results.add(single);
}

void measure_prefill_attention(Lab& lab, const Ceilings& ceilings, Results& results) {
  for (const bool is_causal : {true, false}) {
    AttentionShape shape{.count = 16'384, .is_causal = is_causal};
    if (lab.is_toy()) shape = {.count = 90, .num_q_heads = 2, .num_kv_heads = 1, .is_causal = is_causal};
    Result result = AttentionCase(lab, shape).run();
    result.bar = "G3";
    result.what = std::string("prefill ") + (is_causal ? "causal, " : "full, ") + describe(shape);
    result.value = shape.flops() / result.timing.median * 1e-12;
    result.unit = "TFLOPS";
    result.bound = Bound::at_least;
    result.limit = 330;
    if (ceilings.product_rate > 0) {
      result.aside = {{"of cuBLASLt's 8192^3", result.value * 1e12 / ceilings.product_rate}};
    }
    results.add(result);
  }
}

}  // namespace autoglm::bench
