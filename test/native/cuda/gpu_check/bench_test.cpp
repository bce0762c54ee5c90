// The benchmarks of bench/cuda on the fake driver: sizes are tiny and times mean nothing, but outputs are
// compared with float64, graphs are replayed and the report is written.
#include <gtest/gtest.h>

#include <string>

#include "bench_report.h"

namespace autoglm::test {
namespace {

TEST(GpuBench, FindsEveryOutputRightAndWritesItsReport) {
  const BenchReport report("--note=memcheck='no \"errors\"'");
  EXPECT_EQ(report.status, 0);
  EXPECT_TRUE(report.has("\"memcheck\": \"no \\\"errors\\\"\"")) << report.text;
  for (const char* bar : {"G1", "G2", "G3", "G4", "G5", "G6", "G8", "G9", "G10", "G11"}) {
    EXPECT_TRUE(report.has("{\"bar\": \"" + std::string(bar) + "\"")) << bar;
  }
  EXPECT_FALSE(report.has("\"isRight\": false")) << report.text;
}

TEST(GpuBench, RefusesAnUnknownOptionAndSaysWhenThereIsNoGpu) {
  EXPECT_EQ(run_bench("--quick"), 2);
  EXPECT_EQ(run_bench("--driver=libthat_is_not_there.so"), 3);
}

}  // namespace
}  // namespace autoglm::test
