#include "base/cpu_info.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/formats.h"
#include "base/half.h"

namespace autoglm::test {
namespace {

TEST(CpuInfo, NamesWhatThisProcessorRunsBestFirst) {
  const CpuInfo cpu = probe_cpu();
  ASSERT_FALSE(cpu.supported_isas.empty());
  EXPECT_EQ(cpu.supported_isas.back(), Isa::plain);
  // The best first; which of the two sets of AVX-512 is better depends on the processor's maker.
  const auto rank = [](Isa isa) { return isa == Isa::avx512_bf16 ? Isa::avx512 : isa; };
  EXPECT_TRUE(std::ranges::is_sorted(cpu.supported_isas, std::ranges::greater{}, rank));
  EXPECT_GE(cpu.num_cores, 1);
  EXPECT_EQ(choose_isa(cpu, ""), cpu.supported_isas.front());
  EXPECT_EQ(choose_isa(cpu, "plain"), Isa::plain);
}

TEST(CpuInfo, RefusesAnUnknownOrUnsupportedSetAndNamesTheOthers) {
  CpuInfo cpu;
  cpu.supported_isas = {Isa::avx2, Isa::plain};
  for (const char* name : {"avx512", "sse9", "AVX2"}) {
    try {
      (void)choose_isa(cpu, name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::invalid_parameter);
      EXPECT_NE(std::string(error.what()).find("avx2, plain"), std::string::npos) << error.what();
    }
  }
}

TEST(CpuInfo, RoundsCgroupLimitsUpToWholeCores) {
  EXPECT_EQ(cores_of_cgroup_v2("max 100000"), 0);
  EXPECT_EQ(cores_of_cgroup_v2("200000 100000"), 2);
  EXPECT_EQ(cores_of_cgroup_v2("150000 100000"), 2);
  EXPECT_EQ(cores_of_cgroup_v2("50000 100000"), 1);
  EXPECT_EQ(cores_of_cgroup_v2(""), 0);
  EXPECT_EQ(cores_of_cgroup_v2("100000 0"), 0);
  EXPECT_EQ(cores_of_cgroup_v1("-1", "100000"), 0);
  EXPECT_EQ(cores_of_cgroup_v1("400000", "100000"), 4);
  EXPECT_EQ(cores_of_cgroup_v1("", ""), 0);
}

TEST(Checked, RefusesWhatDoesNotFit) {
  EXPECT_EQ(checked_mul(1LL << 31, 1LL << 31, "x"), 1LL << 62);
  EXPECT_THROW((void)checked_mul(1LL << 32, 1LL << 31, "x"), Error);
  EXPECT_THROW((void)checked_add(INT64_MAX, 1, "x"), Error);
  EXPECT_THROW((void)checked_round_up(INT64_MAX, 64, "x"), Error);
  EXPECT_EQ(checked_round_up(65, 64, "x"), 128);
  EXPECT_EQ(ceil_div(INT64_MAX, 2), INT64_MAX / 2 + 1);
}

// Goal: halves convert exactly, and floats round to the nearest half, ties to even.
// Method: all 65,536 halves there and back; for floats, the neighbours of every midpoint between two halves.
TEST(Half, ConvertsBothWaysAsIeee754Says) {
  const auto expected_value = [](uint16_t half) {
    const int exponent = half >> 10 & 31;
    const double mantissa = half & 1023;
    const double value =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25);
    return (half & 0x8000) != 0 ? -value : value;
  };
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = half_to_float(half);
    if ((half & 0x7c00) == 0x7c00) {
      EXPECT_EQ(std::isnan(value), (half & 1023) != 0);
      EXPECT_EQ(std::signbit(value), (half & 0x8000) != 0);
      continue;
    }
    ASSERT_EQ(value, expected_value(half)) << bits;
    ASSERT_EQ(float_to_half(value), half);
    const float next = (half & 0x7fff) == 0x7bff
                           ? std::copysign(65536.0f, value)
                           : static_cast<float>(expected_value(static_cast<uint16_t>(half + 1)));
    const float middle = (value + next) / 2;
    const auto even = static_cast<uint16_t>((half & 1) == 0 ? half : half + 1);
    ASSERT_EQ(float_to_half(middle), even) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, value)), half) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, next)), static_cast<uint16_t>(half + 1)) << bits;
  }
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(NAN))));
  EXPECT_EQ(float_to_half(1e10f), 0x7c00);
  EXPECT_EQ(float_to_half(-1e-10f), 0x8000);
}

TEST(Formats, TablesFollowTheirList) {
  EXPECT_EQ(info_of(StoredFormat::q6_k).name, "q6_k");
  EXPECT_EQ(info_of(StoredFormat::q6_k).bytes_per_block, 210);
  EXPECT_EQ(info_of(StoredFormat::q6_k).layout, ComputeLayout::q6);
  EXPECT_EQ(name_of(ComputeLayout::bf16), "bf16");
  EXPECT_EQ(bytes_of(KvDtype::bf16), 2);
  EXPECT_EQ(name_of(ErrorCode::internal), "internal");
  EXPECT_EQ(name_of(ErrorCode::engine_failed), "engine_failed");
}

}  // namespace
}  // namespace autoglm::test
