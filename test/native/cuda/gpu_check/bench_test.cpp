// The benchmarks of bench/cuda on the fake driver: sizes are tiny and times mean nothing, but outputs are
// compared with float64, graphs are replayed and the report is written.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace autoglm::test {
namespace {

std::string contents_of(const std::string& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

int run_bench(const std::string& options) {
  const std::string command =
      std::string(AUTOGLM_GPU_BENCH) + " --toy --driver=" + AUTOGLM_FAKE_CUDA + " " + options;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return -1;
  char line[512];
  while (std::fgets(line, sizeof(line), pipe) != nullptr) std::fputs(line, stdout);
  return WEXITSTATUS(pclose(pipe));
}

TEST(GpuBench, FindsEveryOutputRightAndWritesItsReport) {
  const std::string file = testing::TempDir() + "autoglm_gpu_bench.json";
  EXPECT_EQ(run_bench("--json=" + file + " --note=memcheck='no \"errors\"'"), 0);
  const std::string report = contents_of(file);
  EXPECT_NE(report.find("\"memcheck\": \"no \\\"errors\\\"\""), std::string::npos) << report;
  for (const char* bar : {"G1", "G2", "G3", "G4", "G5", "G6", "G10"}) {
    EXPECT_NE(report.find("{\"bar\": \"" + std::string(bar) + "\""), std::string::npos) << bar;
  }
  EXPECT_EQ(report.find("\"isRight\": false"), std::string::npos) << report;
}

TEST(GpuBench, RefusesAnUnknownOptionAndSaysWhenThereIsNoGpu) {
  EXPECT_EQ(run_bench("--quick"), 2);
  EXPECT_EQ(run_bench("--driver=libthat_is_not_there.so"), 3);
}

}  // namespace
}  // namespace autoglm::test
