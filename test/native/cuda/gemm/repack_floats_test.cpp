// Rows of bf16 and of f16 from the CPU's panels, bit for bit, read once more by the description in
// base/packed_matrix.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/packed_matrix.h"
#include "cuda/gemm/repack_floats.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

// The bits that weight (row, col) has in panels of a layout, by the description's own words.
uint32_t stored_bits(const std::vector<std::byte>& panels, ComputeLayout layout, int64_t k, int64_t row,
                     int64_t col) {
  const std::byte* panel = panels.data() + row / 32 * panel_bytes({.layout = layout}, k);
  const int64_t lane = row % 32;
  const int64_t element =
      layout == ComputeLayout::bf16 ? (col / 2 * 32 + lane) * 2 + col % 2 : col * 32 + lane;
  const int64_t bytes = layout == ComputeLayout::f32 ? 4 : 2;
  uint32_t bits = 0;
  std::memcpy(&bits, panel + element * bytes, static_cast<size_t>(bytes));
  return bits;
}

uint16_t expected_bits(ComputeLayout layout, uint32_t bits, cuda::DeviceLayout destination) {
  if (layout == ComputeLayout::bf16 || destination == cuda::DeviceLayout::f16)
    return static_cast<uint16_t>(bits);
  float value = half_to_float(static_cast<uint16_t>(bits));
  if (layout == ComputeLayout::f32) std::memcpy(&value, &bits, 4);
  return to_bf16(value).bits;
}

std::vector<std::byte> random_panels(Random& random, ComputeLayout layout, int64_t rows, int64_t k) {
  const int64_t num_panels = (rows + 31) / 32;
  std::vector<std::byte> panels(num_panels * panel_bytes({.layout = layout}, k));
  const std::vector<uint8_t> bytes = random.bytes(static_cast<int64_t>(panels.size()));
  std::ranges::transform(bytes, panels.begin(), [](uint8_t byte) { return std::byte{byte}; });
  // No infinities and NaNs: half exponents of ones and, in floats, sign and exponent bytes of 0x7f and 0xff.
  for (size_t i = 1; i < panels.size(); i += 2) panels[i] &= std::byte{0xbf};
  return panels;
}

TEST(CudaRepackFloats, WritesEveryRowToItsPlaceAndNothingElse) {
  constexpr ComputeLayout kLayouts[] = {ComputeLayout::f32, ComputeLayout::f16, ComputeLayout::bf16};
  constexpr int64_t kDepths[] = {1, 2, 7, 8, 63, 64, 65, 128, 130};
  for (int i = 0; i < kNumShapes; ++i) {
    SCOPED_TRACE("shape " + std::to_string(i));
    Random random(6000 + i);
    cuda::RepackFloatsArgs args;
    args.layout = kLayouts[i % 3];
    if (args.layout == ComputeLayout::f16 && i % 2 != 0) args.destination_layout = cuda::DeviceLayout::f16;
    args.mapping = static_cast<cuda::RowMapping>(random.below(3));
    args.num_rows = static_cast<int32_t>(random.below(100));
    args.first_row = 32 * random.below(3);
    args.first_destination_row = 16 * random.below(3);
    const int64_t k = random.below(2) == 0 ? kDepths[random.below(9)] : 1 + random.below(200);
    args.k = static_cast<int32_t>(k);
    args.row_stride = static_cast<int32_t>((k + 7) / 8 * 8 + 8 * random.below(2));
    std::vector<std::byte> panels = random_panels(random, args.layout, args.num_rows, k);
    if (args.layout == ComputeLayout::bf16 && k % 2 != 0) {  // the format has zeros behind an odd k
      for (int64_t row = 0; row < (args.num_rows + 31) / 32 * 32; ++row) {
        const int64_t at = row / 32 * panel_bytes({.layout = args.layout}, k) + (k / 2 * 32 + row % 32) * 4;
        std::memset(panels.data() + at + 2, 0, 2);
      }
    }
    const int64_t last_row = args.first_row + std::max(0, args.num_rows - 1);
    const int64_t rows = args.first_destination_row + cuda::mapped_row(args.mapping, last_row) + 3;
    std::vector<uint16_t> destination(rows * args.row_stride, 0xffff);
    std::vector<uint16_t> expected = destination;
    for (int64_t row = 0; row < args.num_rows; ++row) {
      const int64_t to = args.first_destination_row + cuda::mapped_row(args.mapping, args.first_row + row);
      for (int64_t col = 0; col < args.row_stride; ++col) {
        const uint32_t bits = col < k ? stored_bits(panels, args.layout, k, row, col) : 0;
        expected[to * args.row_stride + col] = expected_bits(args.layout, bits, args.destination_layout);
      }
    }
    args.panels = panels.data();
    args.destination = destination.data();
    launch(repack_floats_launch(args), args, schedule_of(i));
    EXPECT_EQ(std::memcmp(destination.data(), expected.data(), destination.size() * 2), 0)
        << "layout " << i % 3 << ", k " << k << ", rows " << args.num_rows;
  }
}

}  // namespace
}  // namespace autoglm::test
