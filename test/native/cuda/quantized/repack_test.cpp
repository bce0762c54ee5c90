// Repacked panels and rows looked up in them, bit for bit against the values of the panels.
#include <gtest/gtest.h>

#include "cuda/quantized/quantized_embedding.h"
#include "cuda/quantized/repack.h"
#include "quantized_fixture.h"

namespace autoglm::test {
namespace {

// A matrix in panels of random bytes, every one of which is a code; scales are normal halves.
struct Panels {
  PackedFormat format;
  int64_t n = 0;
  int64_t k = 0;
  std::vector<uint32_t> bytes = {};
  std::vector<float> factors = {};

  int64_t group_bytes() const { return panel_bytes(format, kGroup); }
  const uint8_t* group(int64_t row, int64_t col) const {
    return reinterpret_cast<const uint8_t*>(bytes.data()) +
           (row / kPanelRows * (k / kGroup) + col / kGroup) * group_bytes();
  }
  int64_t scale_place(int64_t row, int64_t col, bool is_min) const {
    const int64_t part = col % kGroup * format.scales_per_group / kGroup;
    return (part + (is_min ? format.scales_per_group : 0)) * kPanelRows + row % kPanelRows;
  }
  uint16_t scale(int64_t row, int64_t col, bool is_min) const {
    uint16_t out;
    std::memcpy(&out, group(row, col) + code_bytes(format.layout) + 2 * scale_place(row, col, is_min), 2);
    return out;
  }
  // As base/packed_matrix.h describes them, in its words.
  uint8_t code(int64_t row, int64_t col) const {
    const uint8_t* codes = group(row, col);
    const int64_t lane = row % kPanelRows;
    const int64_t at = col % kGroup;
    const auto byte = [&](const uint8_t* first, int64_t outer, int64_t j) {
      return first[((outer * 2 + lane / 16) * 16 + lane % 16) * 4 + j];
    };
    if (format.layout == ComputeLayout::q8) return byte(codes, at / 4, at % 4);
    const uint8_t pair = byte(codes, at / 8, at % 4);
    uint8_t out = at % 8 < 4 ? pair & 15 : pair >> 4;
    if (format.layout == ComputeLayout::q6) {
      const int64_t i = at % 16 / 4;
      const uint8_t high = byte(codes + 512, at / 16, at % 4);
      out = static_cast<uint8_t>(out | (high >> (2 * i) & 1) << 4 | (high >> (2 * i + 1) & 1) << 5);
    }
    return out;
  }
  double value(int64_t row, int64_t col) const {
    const double scaled = double{half_to_float(scale(row, col, false))} *
                          code_value(format.layout, format.has_min, code(row, col));
    const double min = format.has_min ? half_to_float(scale(row, col, true)) : 0;
    return factors[row / kPanelRows] * (scaled + min);
  }
};

// Groups of `shared` k have the same scale and min.
Panels random_panels(Random& random, const PackedFormat& format, int64_t n, int64_t k, int64_t shared) {
  Panels panels{.format = format, .n = n, .k = k};
  const int64_t num_panels = cuda::num_panels(n);
  const std::vector<uint8_t> bytes = random.bytes(num_panels * panel_bytes(format, k));
  panels.bytes.resize(bytes.size() / 4);
  std::memcpy(panels.bytes.data(), bytes.data(), bytes.size());
  for (int64_t i = 0; i < num_panels; ++i) {
    panels.factors.push_back(std::ldexp(1.0f, static_cast<int>(random.below(5)) - 2));
  }
  const int64_t step = kGroup / format.scales_per_group;
  for (int64_t row = 0; row < num_panels * kPanelRows; ++row) {
    uint16_t scales[2] = {};
    for (int64_t col = 0; col < k; col += step) {
      for (const bool is_min : {false, true}) {
        if (is_min && !format.has_min) continue;
        if (col % std::max(shared, step) == 0) {
          const float size = random.below(8) == 0 ? 0 : random.uniform(0.25f, 4);
          scales[is_min] = float_to_half(random.below(2) == 0 ? size : -size);
        }
        auto* place = const_cast<uint8_t*>(panels.group(row, col)) + code_bytes(format.layout);
        std::memcpy(place + 2 * panels.scale_place(row, col, is_min), &scales[is_min], 2);
      }
    }
  }
  return panels;
}

// The destination of one or several sources.
struct Destination {
  cuda::DeviceMatrix matrix;
  Aligned<uint32_t> codes;
  Aligned<uint16_t> scales;
  Aligned<uint16_t> mins;
  std::vector<float> factors;

  Destination(const PackedFormat& format, int64_t n, int64_t k, int group)
      : codes(std::vector<uint32_t>(cuda::weights_bytes(layout_of(format), n, k) / 4)),
        scales(std::vector<uint16_t>(cuda::scales_bytes(n, k, group) / 2)),
        mins(std::vector<uint16_t>(cuda::scales_bytes(n, k, group) / 2)),
        factors(cuda::num_panels(n), 0) {
    matrix = {.weights = codes.data(),
              .scales = scales.data(),
              .mins = format.has_min ? mins.data() : nullptr,
              .row_factors = factors.data(),
              .n = static_cast<int32_t>(n),
              .k = static_cast<int32_t>(k),
              .row_stride = 0,
              .group = group,
              .layout = layout_of(format)};
  }
  static cuda::DeviceLayout layout_of(const PackedFormat& format) {
    return format.layout == ComputeLayout::q4 ? cuda::DeviceLayout::w4 : cuda::DeviceLayout::w8;
  }

  void merge_factors(const Panels& from, cuda::RowMapping mapping, int64_t first_row) {
    cuda::merge_row_factors(from.factors.data(), from.n, mapping, first_row, factors.data());
  }

  // One range of panels after the other, as they would be staged.
  void take(const Panels& from, cuda::RowMapping mapping, int32_t first_row, int64_t panels_at_a_time,
            const emulator::Schedule& schedule) {
    const int64_t num_panels = cuda::num_panels(from.n);
    for (int64_t first = 0; first < num_panels; first += panels_at_a_time) {
      const int64_t count = std::min(panels_at_a_time, num_panels - first);
      cuda::RepackArgs args;
      args.panels = reinterpret_cast<const std::byte*>(from.group(first * kPanelRows, 0));
      args.panel_factors = from.factors.data() + first;
      args.format = from.format;
      args.k = matrix.k;
      args.num_rows = static_cast<int32_t>(std::min(count * kPanelRows, from.n - first * kPanelRows));
      args.first_panel = static_cast<int32_t>(first);
      args.mapping = mapping;
      args.first_row = first_row;
      args.weights = codes.data();
      args.scales = scales.data();
      args.mins = from.format.has_min ? mins.data() : nullptr;
      args.row_factors = factors.data();
      args.group = matrix.group;
      launch(cuda::repack_launch(args), args, schedule);
    }
  }

  double value(int64_t row, int64_t col) const {
    const int bits = cuda::code_bits(matrix.layout);
    const cuda::CodePlace place =
        cuda::code_in_slab(bits, static_cast<int>(row % 32), static_cast<int>(col % cuda::kSlabK));
    const auto* words = static_cast<const uint32_t*>(matrix.weights);
    const uint32_t word = words[cuda::slab_offset(bits, matrix.k, row, col) / 4 + place.word] >> place.bit;
    const int64_t at = cuda::scale_index(matrix.k, matrix.group, row, col);
    const double scale = half_to_float(static_cast<const uint16_t*>(matrix.scales)[at]);
    const double code = bits == 4 ? static_cast<double>(word & 15) : static_cast<int8_t>(word & 255);
    double min = bits == 4 ? -8 * scale : 0;
    if (matrix.mins != nullptr) min = half_to_float(static_cast<const uint16_t*>(matrix.mins)[at]);
    return factors[row / kPanelRows] * (code * scale + min);
  }
};

void expect_equal(const Destination& found, const Panels& panels, cuda::RowMapping mapping,
                  int64_t first_row) {
  for (int64_t row = 0; row < panels.n; ++row) {
    for (int64_t col = 0; col < panels.k; ++col) {
      const int64_t to = cuda::mapped_row(mapping, first_row + row);
      ASSERT_EQ(found.value(to, col), panels.value(row, col)) << "row " << row << ", column " << col;
    }
  }
}

PackedFormat random_packed_format(Random& random) {
  constexpr int64_t kCount = sizeof(kQuantizedFormats) / sizeof(kQuantizedFormats[0]);
  return kQuantizedFormats[random.below(kCount)];
}

struct RepackShape {
  PackedFormat format;
  int64_t k;
  int group;
};

RepackShape random_shape(Random& random) {
  constexpr int kGroups[] = {32, 64, 128};
  RepackShape shape{.format = random_packed_format(random), .k = 0, .group = 16};
  if (shape.format.scales_per_group == 1) shape.group = kGroups[random.below(3)];
  const int64_t step = std::max(shape.group, 32);
  shape.k = step * (1 + random.below(256 / step));
  return shape;
}

TEST(CudaRepack, KeepsEveryValueOfRowsThatFollowEachOther) {
  for (int seed = 0; seed < kNumShapes; ++seed) {
    SCOPED_TRACE("shape " + std::to_string(seed));
    Random random(7000 + seed);
    const RepackShape shape = random_shape(random);
    // Queries, keys and values in one matrix: the second begins inside a panel now and then.
    const int64_t first_n = 1 + random.below(70);
    const Panels first = random_panels(random, shape.format, first_n, shape.k, shape.group);
    const Panels second = random_panels(random, shape.format, 1 + random.below(40), shape.k, shape.group);
    Destination to(shape.format, first.n + second.n, shape.k, shape.group);
    to.merge_factors(first, cuda::RowMapping::plain, 0);
    to.merge_factors(second, cuda::RowMapping::plain, first_n);
    to.take(first, cuda::RowMapping::plain, 0, 1 + random.below(3), schedule_of(seed));
    to.take(second, cuda::RowMapping::plain, static_cast<int32_t>(first_n), 2, schedule_of(seed));
    expect_equal(to, first, cuda::RowMapping::plain, 0);
    expect_equal(to, second, cuda::RowMapping::plain, first_n);
  }
}

TEST(CudaRepack, InterleavesGateAndUp) {
  for (int seed = 0; seed < kNumShapes; ++seed) {
    SCOPED_TRACE("shape " + std::to_string(seed));
    Random random(8000 + seed);
    const RepackShape shape = random_shape(random);
    const int64_t n = 8 * (1 + random.below(9));
    const Panels gate = random_panels(random, shape.format, n, shape.k, shape.group);
    const Panels up = random_panels(random, shape.format, n, shape.k, shape.group);
    Destination to(shape.format, 2 * n, shape.k, shape.group);
    to.merge_factors(gate, cuda::RowMapping::gate, 0);
    to.merge_factors(up, cuda::RowMapping::up, 0);
    const int64_t at_a_time = 1 + random.below(3);
    to.take(gate, cuda::RowMapping::gate, 0, at_a_time, schedule_of(seed));
    to.take(up, cuda::RowMapping::up, 0, at_a_time, schedule_of(seed));
    expect_equal(to, gate, cuda::RowMapping::gate, 0);
    expect_equal(to, up, cuda::RowMapping::up, 0);
  }
}

TEST(CudaQuantizedEmbedding, GivesTheValuesOfTheTable) {
  for (int seed = 0; seed < kNumShapes; ++seed) {
    SCOPED_TRACE("shape " + std::to_string(seed));
    Random random(9000 + seed);
    Format format{.layout = random.below(2) == 0 ? cuda::DeviceLayout::w4 : cuda::DeviceLayout::w8,
                  .group = 16 << random.below(4),
                  .has_mins = random.below(2) == 0,
                  .has_factors = random.below(2) == 0};
    const int32_t hidden = static_cast<int32_t>(std::max(format.group, 32) * (1 + random.below(4)));
    const int32_t vocab = static_cast<int32_t>(1 + random.below(50));
    const QuantizedWeights table = random_weights(random, format, vocab, hidden);
    const std::vector<cuda::Bf16> tables[2] = {to_bf16s(random.normals(vocab * hidden)),
                                               to_bf16s(random.normals(vocab * hidden))};
    const int64_t rows = random.below(5);
    std::vector<int32_t> ids[3];
    for (std::vector<int32_t>& each : ids) {
      for (int64_t row = 0; row < rows; ++row) each.push_back(static_cast<int32_t>(random.below(vocab)));
    }
    std::vector<float> out(rows * hidden, NAN);
    cuda::QuantizedEmbeddingArgs args;
    args.table = table.matrix();
    args.ids = ids[0].data();
    if (random.below(2) == 0) args.positions = tables[0].data();
    args.position_ids = ids[1].data();
    if (random.below(2) == 0) args.types = tables[1].data();
    args.type_ids = ids[2].data();
    args.out = out.data();
    args.num_rows = static_cast<int32_t>(rows);
    args.scale = 3;
    launch(quantized_embedding_launch(args), args, schedule_of(seed));
    std::vector<double> expected;
    for (int64_t row = 0; row < rows; ++row) {
      for (int32_t i = 0; i < hidden; ++i) {
        double value = 3 * table.values[int64_t{ids[0][row]} * hidden + i];
        if (args.positions != nullptr) value += to_float(tables[0][ids[1][row] * hidden + i]);
        if (args.types != nullptr) value += to_float(tables[1][ids[2][row] * hidden + i]);
        expected.push_back(value);
      }
    }
    EXPECT_LE(relative_distance(out, expected), 1e-6);
  }
}

}  // namespace
}  // namespace autoglm::test
