#include "models/synthetic_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/half.h"
#include "quant/packed_matrix.h"
#include "random_values.h"

namespace autoglm::bench {
namespace {

constexpr int64_t kBlockBytes = 4 << 20;  // of random bytes, which every panel takes from another place
constexpr double kRopeBase = 500'000;
constexpr int64_t kAlignment = 64;

uint16_t to_bf16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>(bits >> 16);
}

PackedFormat body_format(WeightForm form) {
  return choose_packed_format(form == WeightForm::bf16 ? StoredFormat::bf16 : StoredFormat::q4_0,
                              Precision::fast);
}
PackedFormat head_format(WeightForm form) {
  return choose_packed_format(form == WeightForm::bf16 ? StoredFormat::bf16 : StoredFormat::q6_k,
                              Precision::fast);
}

// What panels are made of: one k pair of 32 rows in bfloat16, else a group of codes with its scales.
int64_t unit_bytes(const PackedFormat& format) {
  return format.layout == ComputeLayout::bf16
             ? kPanelRows * 4
             : code_bytes(format.layout) + kPanelRows * 2 * format.scales_per_group;
}

// Weights of a size that keeps the outputs of a product with k columns near its inputs.
std::vector<std::byte> random_units(const PackedFormat& format, int64_t k, int64_t count) {
  test::Random random(static_cast<uint64_t>(k));
  const int64_t size = unit_bytes(format);
  std::vector<std::byte> units(static_cast<size_t>(count * size));
  const float deviation = 1 / std::sqrt(static_cast<float>(k));
  const auto put = [&units](int64_t at, auto value) {
    std::memcpy(units.data() + at, &value, sizeof(value));
  };
  if (format.layout == ComputeLayout::bf16) {
    for (int64_t at = 0; at < count * size; at += 2) put(at, to_bf16(deviation * random.normal()));
    return units;
  }
  // Codes are spread evenly: their deviation is the square root of a twelfth of their range.
  const float range = format.layout == ComputeLayout::q4 ? 16 : 64;
  const float scale = deviation * std::sqrt(12.0f) / range;
  for (int64_t unit = 0; unit < count; ++unit) {
    const int64_t end_of_codes = unit * size + code_bytes(format.layout);
    for (int64_t at = unit * size; at < end_of_codes; at += 8) put(at, random.next());
    for (int64_t at = end_of_codes; at < (unit + 1) * size; at += 2) {
      put(at, float_to_half(scale * (0.75f + static_cast<float>(random.below(512)) / 1024)));
    }
  }
  return units;
}

// Takes the arena's memory piece by piece; without memory it counts.
class ArenaBuilder {
 public:
  explicit ArenaBuilder(std::byte* memory) : memory_(memory) {}
  int64_t num_bytes() const { return used_; }

  PackedMatrix matrix(const PackedFormat& format, int64_t n, int64_t k) {
    const int64_t num_bytes = packed_matrix_bytes(format, n, k);
    std::byte* const memory = take(num_bytes);
    if (memory == nullptr) return {};
    PackedMatrix result =
        make_packed_matrix(format, Precision::fast, n, k, {memory, static_cast<size_t>(num_bytes)});
    fill(result);
    return result;
  }

  const float* ones(int64_t count) {
    auto* const values = reinterpret_cast<float*>(take(count * int64_t{sizeof(float)}));
    if (values != nullptr) std::fill_n(values, count, 1.0f);
    return values;
  }

 private:
  std::byte* take(int64_t num_bytes) {
    const int64_t first = used_;
    used_ += (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : memory_ + first;
  }

  static void fill(PackedMatrix& matrix) {
    const int64_t unit = unit_bytes(matrix.format);
    const int64_t size = panel_bytes(matrix.format, matrix.k);
    const int64_t num_units = size / unit + std::min(kBlockBytes / unit, matrix.num_panels() * 8);
    const std::vector<std::byte> units = random_units(matrix.format, matrix.k, num_units);
    test::Random places(static_cast<uint64_t>(matrix.n));
    for (int64_t panel = 0; panel < matrix.num_panels(); ++panel) {
      const int64_t first = places.below(num_units - size / unit + 1) * unit;
      std::memcpy(matrix.panels + panel * size, units.data() + first, static_cast<size_t>(size));
    }
    if (matrix.format.is_quantized()) std::fill_n(matrix.panel_factors, matrix.num_panels(), 1.0f);
  }

  std::byte* memory_;
  int64_t used_ = 0;
};

void build(const DecoderSpec& spec, WeightForm form, ArenaBuilder& builder, DecoderWeights& weights) {
  const int64_t hidden = spec.hidden_size;
  const AttentionSpec& attention = spec.layers.front().attention;
  const MlpSpec& mlp = spec.layers.front().mlp;
  const PackedFormat body = body_format(form);
  const int64_t qkv_cols = attention.q_cols() + attention.k_cols() + attention.v_cols();
  LayerWeights layer;
  layer.attention_norm.weight = layer.mlp_norm.weight = weights.final_norm.weight = builder.ones(hidden);
  layer.qkv.parts = {{.matrix = builder.matrix(body, qkv_cols, hidden)}};
  layer.o.matrix = builder.matrix(body, hidden, attention.attended_cols());
  layer.gate_up.parts = {{.matrix = builder.matrix(body, mlp.gate_up_cols(), hidden)}};
  layer.down.matrix = builder.matrix(body, hidden, mlp.intermediate_size);
  weights.layers.assign(spec.layers.size(), layer);
  const bool is_tied = spec.head->is_tied;
  weights.embedding = builder.matrix(is_tied ? head_format(form) : body, spec.vocab_size, hidden);
  if (!is_tied) weights.head.matrix = builder.matrix(head_format(form), spec.vocab_size, hidden);
}

}  // namespace

DecoderSpec spec_of(const ModelShape& shape, int64_t context_length) {
  DecoderSpec spec;
  spec.vocab_size = shape.vocab_size;
  spec.hidden_size = shape.hidden_size;
  spec.context_length = context_length;
  const NormSpec norm{.kind = NormKind::rms, .epsilon = 1e-5f};
  LayerSpec layer;
  layer.attention = {.num_q_heads = shape.num_q_heads,
                     .num_kv_heads = shape.num_kv_heads,
                     .head_dim = shape.head_dim,
                     .value_dim = shape.head_dim,
                     .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
                     .qk_norm = {},
                     .sliding_window = {},
                     .soft_cap = {},
                     .rope_table = 0};
  layer.mlp = {.intermediate_size = shape.intermediate_size};
  layer.norm = norm;
  spec.layers.assign(static_cast<size_t>(shape.num_layers), layer);
  spec.final_norm = norm;
  spec.head = HeadSpec{.is_tied = shape.is_tied, .soft_cap = {}};
  RopeTable table{.rotary_dim = shape.head_dim, .style = RopeStyle::half_split, .frequencies = {}};
  for (int64_t i = 0; i < shape.head_dim; i += 2) {
    table.frequencies.push_back(
        std::pow(kRopeBase, -static_cast<double>(i) / static_cast<double>(shape.head_dim)));
  }
  spec.rope_tables = {table};
  check_decoder_spec(spec);
  return spec;
}

std::unique_ptr<DecoderWeights> random_weights(const DecoderSpec& spec, WeightForm form) {
  auto weights = std::make_unique<DecoderWeights>();
  ArenaBuilder counted(nullptr);
  build(spec, form, counted, *weights);
  weights->arena = MemoryRegion(counted.num_bytes());
  ArenaBuilder builder(weights->arena.data());
  build(spec, form, builder, *weights);
  return weights;
}

double kv_bytes(const ModelShape& shape, double num_tokens) {
  return num_tokens * static_cast<double>(shape.num_layers * shape.num_kv_heads * shape.head_dim * 2 * 2);
}

}  // namespace autoglm::bench
