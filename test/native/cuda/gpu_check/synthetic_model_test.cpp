// The models of bench/cuda/models: shapes of the published ones, weights that mean nothing but keep numbers
// in range.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "model/gpu/host_rows.h"
#include "models/synthetic_model.h"

namespace autoglm::test {
namespace {

int64_t num_parameters(const bench::ModelShape& shape) {
  const DecoderSpec spec = bench::spec_of(shape, 64);
  int64_t count = spec.vocab_size * spec.hidden_size * (spec.head->is_tied ? 1 : 2) + spec.hidden_size;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    count +=
        2 * spec.hidden_size + spec.hidden_size * (attention.q_cols() + attention.k_cols() +
                                                   attention.v_cols() + attention.attended_cols() +
                                                   layer.mlp.gate_up_cols() + layer.mlp.intermediate_size);
  }
  return count;
}

TEST(SyntheticModel, HasTheSizeOfThePublishedOne) {
  EXPECT_EQ(num_parameters(bench::k8b), 8'030'261'248);
  EXPECT_EQ(num_parameters(bench::k1b), 1'235'814'400);
  EXPECT_EQ(bench::kv_bytes(bench::k8b, 1), 128 * 1024);
  EXPECT_EQ(bench::kv_bytes(bench::k1b, 2), 64 * 1024);
}

// Products then keep their inputs' length.
void expect_deviation_of_columns(const PackedMatrix& matrix, const char* name) {
  std::vector<float> row(static_cast<size_t>(matrix.k) + kPanelRows), first;
  double squares = 0;
  for (int64_t i = 0; i < matrix.n; ++i) {
    gpu::unpack_row(matrix, i, std::span<float>(row));
    for (int64_t col = 0; col < matrix.k; ++col)
      squares += row[static_cast<size_t>(col)] * row[static_cast<size_t>(col)];
    if (i == 0) first = row;
  }
  EXPECT_NE(first, row) << name;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(matrix.n)), 1, 0.1) << name;
}

TEST(SyntheticModel, WeightsOfEachFormAreRandomAndInRange) {
  const DecoderSpec spec = bench::spec_of(bench::kToy, 64);
  for (const bench::WeightForm form : {bench::WeightForm::bf16, bench::WeightForm::q4_0}) {
    SCOPED_TRACE(form == bench::WeightForm::bf16 ? "bf16" : "q4_0");
    const auto weights = bench::random_weights(spec, form);
    const LayerWeights& layer = weights->layers.back();
    expect_deviation_of_columns(weights->embedding, "embedding");
    expect_deviation_of_columns(layer.qkv.parts.front().matrix, "qkv");
    expect_deviation_of_columns(layer.o.matrix, "o");
    expect_deviation_of_columns(layer.gate_up.parts.front().matrix, "gate and up");
    expect_deviation_of_columns(layer.down.matrix, "down");
    expect_deviation_of_columns(weights->head.matrix, "head");
  }
}

}  // namespace
}  // namespace autoglm::test
