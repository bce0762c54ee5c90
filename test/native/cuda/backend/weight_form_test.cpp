// What packed weights become on the device: the form, how many columns share a scale, the bits of halves.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/driver/device_registry.h"
#include "emulated_modules.h"
#include "model/gpu/weight_upload.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

// Panels whose scales and mins differ from one group of `group` columns to the next, and by row.
class GroupedPanels {
 public:
  GroupedPanels(PackedFormat format, int64_t n, int64_t k, int64_t group)
      : bytes_(static_cast<size_t>((n + kPanelRows - 1) / kPanelRows * panel_bytes(format, k))) {
    matrix = {.format = format, .n = n, .k = k, .panels = bytes_.data()};
    for (int64_t panel = 0; panel < matrix.num_panels(); ++panel) {
      for (int64_t col = 0; col < k; col += kGroup) {
        for (int64_t i = 0; i < num_halves(); ++i) half(panel, col, i) = value(i, col / group);
      }
    }
  }
  GroupedPanels(const GroupedPanels&) = delete;
  GroupedPanels& operator=(const GroupedPanels&) = delete;

  int64_t num_halves() const {
    return (panel_bytes(matrix.format, kGroup) - code_bytes(matrix.format.layout)) / 2;
  }
  // Scale `i` of the group of 32 that holds the column; mins lie behind.
  uint16_t& half(int64_t panel, int64_t col, int64_t i) {
    std::byte* const group = matrix.panels + panel * panel_bytes(matrix.format, matrix.k) +
                             col / kGroup * panel_bytes(matrix.format, kGroup);
    return reinterpret_cast<uint16_t*>(group + code_bytes(matrix.format.layout))[i];
  }

  PackedMatrix matrix;

 private:
  static uint16_t value(int64_t i, int64_t group) {
    return static_cast<uint16_t>(0x3000 + 8 * group + i % 7);
  }
  std::vector<std::byte> bytes_;
};

gpu::MatrixPart whole(const GroupedPanels& panels) {
  return {.source = panels.matrix, .num_rows = panels.matrix.n};
}

constexpr PackedFormat kPlain{.layout = ComputeLayout::q4};
constexpr PackedFormat kWithMins{.layout = ComputeLayout::q8, .has_min = true};

TEST(DeviceGroups, AreAsLongAsScalesAreShared) {
  for (const PackedFormat& format : {kPlain, kWithMins}) {
    for (const int64_t group : {32, 64, 128}) {
      const GroupedPanels panels(format, 70, 384, group);
      EXPECT_EQ(gpu::shared_group(panels.matrix, 0, 70), group);
    }
    const GroupedPanels longer(format, 70, 768, 256);
    EXPECT_EQ(gpu::shared_group(longer.matrix, 0, 70), 128);
  }
}

TEST(DeviceGroups, DivideTheColumns) {
  const GroupedPanels of_64(kPlain, 32, 192, 1024);
  EXPECT_EQ(gpu::shared_group(of_64.matrix, 0, 32), 64);
  const GroupedPanels of_32(kPlain, 32, 96, 1024);
  EXPECT_EQ(gpu::shared_group(of_32.matrix, 0, 32), 32);
}

// One scale or min of 64 x 384 differs, in the first lane or the last, at either end of a row.
TEST(DeviceGroups, AreShortWhereOneScaleOrMinDiffers) {
  for (const int64_t panel : {0, 1}) {
    for (const int64_t i : {0, 31, 32, 63}) {
      SCOPED_TRACE("panel " + std::to_string(panel) + ", half " + std::to_string(i));
      for (const int64_t col : {32, 352}) {
        GroupedPanels panels(kWithMins, 64, 384, 128);
        panels.half(panel, col, i) += 1;
        EXPECT_EQ(gpu::shared_group(panels.matrix, 0, 64), 32);
        EXPECT_EQ(gpu::shared_group(panels.matrix, panel * 32, 32), 32);
        EXPECT_EQ(gpu::shared_group(panels.matrix, (1 - panel) * 32, 32), 128);
      }
      GroupedPanels panels(kWithMins, 64, 384, 128);
      for (const int64_t col : {64, 96}) panels.half(panel, col, i) += 1;
      EXPECT_EQ(gpu::shared_group(panels.matrix, 0, 64), 64);
    }
  }
}

TEST(DeviceGroups, StayHalvesOf32WhereThoseHaveTheirOwn) {
  const PackedFormat format{.layout = ComputeLayout::q6, .scales_per_group = 2};
  EXPECT_EQ(gpu::shared_group(GroupedPanels(format, 32, 256, 128).matrix, 0, 32), 16);
}

TEST(DeviceGroups, AreTheShortestOfTheParts) {
  const GroupedPanels a(kPlain, 64, 256, 128);
  const GroupedPanels b(kPlain, 32, 256, 64);
  for (const auto& parts : {std::vector{whole(a), whole(b)}, std::vector{whole(b), whole(a)}}) {
    const gpu::DeviceForm form = gpu::choose_form(parts);
    EXPECT_EQ(form.group, 64);
    EXPECT_EQ(form.layout, cuda::DeviceLayout::w4);
  }
}

// One expert of a layer has longer groups than the others; all lie at equal distances.
TEST(DeviceGroups, AreTheShortestOfTheExperts) {
  const GroupedPanels a(kPlain, 64, 256, 128);
  const GroupedPanels b(kPlain, 64, 256, 32);
  const std::vector<gpu::WeightUpload::Parts> experts[] = {
      {{whole(a)}, {whole(a)}}, {{whole(a)}, {whole(b)}}, {{whole(b)}, {whole(a)}}};
  for (const auto& each : experts) {
    gpu::DeviceExperts destination;
    gpu::WeightUpload upload;
    upload.add_experts(destination, each);
    const gpu::DeviceForm form{.layout = cuda::DeviceLayout::w4, .group = &each == experts ? 128 : 32};
    EXPECT_EQ(upload.num_bytes(), 2 * gpu::device_matrix_bytes(form, 64, 256));
  }
}

// Panels of random finite floats, subnormal ones among those of f16.
class FloatPanels {
 public:
  FloatPanels(ComputeLayout layout, int64_t n, int64_t k, uint64_t seed) {
    const PackedFormat format{.layout = layout};
    Random random(seed);
    bytes_ = random.bytes((n + kPanelRows - 1) / kPanelRows * panel_bytes(format, k));
    for (size_t i = 1; i < bytes_.size(); i += 2) bytes_[i] &= 0xbf;
    matrix = {.format = format, .n = n, .k = k, .panels = reinterpret_cast<std::byte*>(bytes_.data())};
  }
  FloatPanels(const FloatPanels&) = delete;
  FloatPanels& operator=(const FloatPanels&) = delete;

  gpu::MatrixPart part(int64_t first_row, int64_t num_rows, int64_t first_destination_row = 0) const {
    return {.source = matrix,
            .first_row = first_row,
            .num_rows = num_rows,
            .first_destination_row = first_destination_row};
  }
  gpu::MatrixPart whole() const { return part(0, matrix.n); }
  // Of a matrix of f16.
  uint16_t half(int64_t row, int64_t col) const {
    const std::byte* panel = matrix.panels + row / kPanelRows * panel_bytes(matrix.format, matrix.k);
    return reinterpret_cast<const uint16_t*>(panel)[col * kPanelRows + row % kPanelRows];
  }

  PackedMatrix matrix;

 private:
  std::vector<uint8_t> bytes_;
};

// Runs the upload and reads `matrix`, one of its destinations, back.
std::vector<uint16_t> uploaded(gpu::WeightUpload& upload, const cuda::DeviceMatrix& matrix) {
  cuda::Stream stream(cuda::open_device(0, emulated_modules(), AUTOGLM_FAKE_CUDA));
  ThreadPool pool(1);
  LoadControl control;
  control.check = [] {};
  const cuda::Arena arena = upload.run(stream, pool, control);
  std::vector<uint16_t> out(static_cast<size_t>(matrix.n) * static_cast<size_t>(matrix.row_stride));
  stream.copy_to_host(out.data(), matrix.weights, 2 * out.size());
  stream.synchronize();
  return out;
}

// From panels the device takes them, from rows within a panel the host does.
TEST(DeviceHalves, KeepTheirBits) {
  const FloatPanels a(ComputeLayout::f16, 70, 43, 1);
  const FloatPanels b(ComputeLayout::f16, 40, 43, 2);
  for (const int64_t first_row : {0, 32, 7}) {
    SCOPED_TRACE("from row " + std::to_string(first_row));
    const int64_t num_rows = 70 - first_row;
    cuda::DeviceMatrix matrix;
    gpu::WeightUpload upload;
    upload.add_matrix(matrix, {a.part(first_row, num_rows), b.part(0, 40, num_rows)});
    const std::vector<uint16_t> found = uploaded(upload, matrix);
    EXPECT_EQ(matrix.layout, cuda::DeviceLayout::f16);
    ASSERT_EQ(matrix.row_stride, 48);
    for (int64_t row = 0; row < matrix.n; ++row) {
      for (int64_t col = 0; col < 48; ++col) {
        const uint16_t stored = row < num_rows ? a.half(first_row + row, std::min<int64_t>(col, 42))
                                               : b.half(row - num_rows, std::min<int64_t>(col, 42));
        ASSERT_EQ(found[static_cast<size_t>(row * 48 + col)], col < 43 ? stored : 0)
            << "row " << row << ", column " << col;
      }
    }
  }
}

TEST(DeviceHalves, BecomeBfloat16BesideOtherFloats) {
  const FloatPanels halves(ComputeLayout::f16, 32, 40, 1);
  for (const ComputeLayout layout : {ComputeLayout::bf16, ComputeLayout::f32}) {
    const FloatPanels others(layout, 32, 40, 2);
    for (const auto& parts :
         {std::vector{halves.whole(), others.part(0, 32, 32)},
          std::vector{others.whole(), halves.part(0, 32, 32)}, std::vector{others.whole()}}) {
      EXPECT_EQ(gpu::choose_form(parts), gpu::DeviceForm{});
    }
    for (const auto& experts : {std::vector<gpu::WeightUpload::Parts>{{halves.whole()}, {others.whole()}},
                                std::vector<gpu::WeightUpload::Parts>{{others.whole()}, {halves.whole()}}}) {
      gpu::DeviceExperts destination;
      gpu::WeightUpload upload;
      upload.add_experts(destination, experts);
      uploaded(upload, destination.first);
      EXPECT_EQ(destination.first.layout, cuda::DeviceLayout::bf16);
    }
  }
}

TEST(DeviceHalves, StayHalvesInExpertsAndBecomeBfloat16WhereItIsAskedFor) {
  const FloatPanels halves(ComputeLayout::f16, 32, 40, 1);
  gpu::DeviceExperts experts;
  cuda::DeviceMatrix rounded;
  gpu::WeightUpload upload;
  upload.add_experts(experts, {{halves.whole()}, {halves.whole()}});
  upload.add_bf16_matrix(rounded, {halves.whole()});
  const std::vector<uint16_t> found = uploaded(upload, experts.first);
  EXPECT_EQ(found[41], halves.half(1, 1));
  EXPECT_EQ(experts.first.layout, cuda::DeviceLayout::f16);
  EXPECT_EQ(rounded.layout, cuda::DeviceLayout::bf16);
}

}  // namespace
}  // namespace autoglm::test
