// Low-rank adapters on a GPU, beside the CPU: all products, two adapters and rows without one in a step.
#include <gtest/gtest.h>

#include <memory>

#include "model/adapter.h"
#include "model_file_at.h"
#include "step_runner.h"

namespace autoglm::test {
namespace {

// Random additions to every product of a model, as bf16 matrices in a file of their own.
class RandomAdapter {
 public:
  RandomAdapter(const DecoderSpec& spec, int64_t rank, uint64_t seed) : random_(seed) {
    path_ = std::filesystem::temp_directory_path() /
            ("autoglm-adapter-" + std::to_string(getpid()) + "-" + std::to_string(seed));
    for (size_t layer = 0; layer < spec.layers.size(); ++layer) {
      const AttentionSpec& attention = spec.layers[layer].attention;
      const int64_t intermediate = spec.layers[layer].mlp.intermediate_size;
      // q and v, not k; gate and up.
      add(spec, layer, Product::qkv, 0, attention.q_cols(), rank);
      add(spec, layer, Product::qkv, attention.q_cols() + attention.k_cols(), attention.v_cols(), rank);
      add(spec, layer, Product::o, 0, spec.hidden_size, rank);
      if (layer == 1) continue;  // its MLP stays as it is
      add(spec, layer, Product::gate_up, 0, intermediate, rank);
      add(spec, layer, Product::gate_up, intermediate, intermediate, rank);
      add(spec, layer, Product::down, 0, spec.hidden_size, rank);
    }
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(values_.data()),
               static_cast<std::streamsize>(values_.size() * sizeof(uint16_t)));
    request_.files = {model_file_at(path_)};
  }
  ~RandomAdapter() { std::filesystem::remove(path_); }
  RandomAdapter(const RandomAdapter&) = delete;
  RandomAdapter& operator=(const RandomAdapter&) = delete;

  std::unique_ptr<const Adapter> read() const {
    return std::make_unique<const Adapter>(request_, [] {});
  }

 private:
  void add(const DecoderSpec& spec, size_t layer, Product product, int64_t first_col, int64_t num_cols,
           int64_t rank) {
    const int64_t in = product_shape(spec, spec.layers[layer], product).in;
    AdapterPartSource part;
    part.layer = static_cast<int64_t>(layer);
    part.product = product;
    part.first_col = first_col;
    part.scale = 0.5F;
    part.a = matrix(rank, in);
    part.b = matrix(num_cols, rank);
    request_.parts.push_back(part);
  }

  WeightSource matrix(int64_t n, int64_t k) {
    WeightSource source;
    source.format = StoredFormat::bf16;
    source.shape = {n, k};
    source.slices = {{.file = 0,
                      .offset = static_cast<int64_t>(values_.size() * sizeof(uint16_t)),
                      .num_bytes = n * k * 2}};
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    const float size = 1.2F / std::sqrt(static_cast<float>(k));
    for (int64_t i = 0; i < n * k; ++i)
      values_.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(size * uniform(random_)) >> 16));
    return source;
  }

  std::string path_;
  std::mt19937_64 random_;
  std::vector<uint16_t> values_;
  AdapterRequest request_;
};

class GpuAdapters : public testing::Test {
 protected:
  DecoderSpec spec_ = small_spec();
  RandomModel model_{spec_, StoredFormat::bf16};
  RandomAdapter first_{spec_, 5, 21};  // a rank that has to be filled up
  RandomAdapter second_{spec_, 16, 22};
};

// Three requests side by side, of which the answers are logits of all positions.
std::vector<std::vector<float>> run_three(StepRunner& runner, int64_t chunk) {
  std::vector<std::vector<float>> outputs;
  constexpr int64_t kCount = 27;  // in pieces of 13 the last is a single token
  for (int32_t row = 0; row < 3; ++row) {
    Request request{.kind = RequestKind::logits, .tokens = random_tokens(kCount, 96, 7), .adapter = row};
    for (int32_t i = 0; i < kCount; ++i) request.positions.push_back(i);
    runner.admit(row, request);
    outputs.emplace_back(static_cast<size_t>(kCount * 96));
  }
  for (int32_t row = 0; row < 3; ++row) runner.model().set_output(row + 1, outputs[static_cast<size_t>(row)]);
  for (int64_t start = 0; start < kCount; start += chunk) {
    for (int32_t row = 0; row < 3; ++row) runner.compute(row, start, std::min(chunk, kCount - start), false);
    EXPECT_EQ(runner.run(), 0);
  }
  return outputs;
}

TEST_F(GpuAdapters, AddWhatTheyAddOnTheCpu) {
  StepRunner cpu(model_, Place::cpu);
  StepRunner gpu(model_, Place::gpu);
  for (StepRunner* runner : {&cpu, &gpu}) {
    runner->model().add_adapter(1, first_.read());
    runner->model().add_adapter(2, second_.read());
  }
  const std::vector<std::vector<float>> expected = run_three(cpu, 27);
  EXPECT_GT(worst_row(expected[1], expected[0], 96), 0.2);  // it is no small change
  for (const int64_t chunk : {int64_t{27}, int64_t{13}}) {
    const std::vector<std::vector<float>> found = run_three(gpu, chunk);
    for (size_t row = 0; row < 3; ++row)
      EXPECT_LE(worst_row(found[row], expected[row], 96), kLogitTolerance) << "adapter " << row;
  }
}

TEST_F(GpuAdapters, CanBeReplacedUnderTheirNumber) {
  StepRunner gpu(model_, Place::gpu);
  gpu.model().add_adapter(1, first_.read());
  gpu.model().add_adapter(2, second_.read());
  const std::vector<std::vector<float>> before = run_three(gpu, 27);
  gpu.model().remove_adapter(1);
  gpu.model().remove_adapter(2);
  gpu.model().add_adapter(1, second_.read());
  gpu.model().add_adapter(2, first_.read());
  const std::vector<std::vector<float>> after = run_three(gpu, 27);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(after[1], before[2]);
  EXPECT_EQ(after[2], before[1]);
}

}  // namespace
}  // namespace autoglm::test
