// Whole models of bench/cuda/models on the fake driver: every bar has its figure, computed as
// docs/gpu-check.md says, beside its limit, and what cannot be measured says why.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "bench_report.h"

namespace autoglm::test {
namespace {

constexpr double kPrinted = 1e-4;  // relative: the report has six digits

void expect_close(double found, double expected, const std::string& line) {
  EXPECT_NEAR(found, expected, kPrinted * std::abs(expected)) << line;
}

struct BoundResult {
  const char* bar;
  const char* what;
  const char* bound;
  double limit;
};

// The table of bars, G9 apart, whose bars need llama.cpp.
constexpr BoundResult kBoundResults[] = {
    {"G8", "decode of 1 sequence, 8B bf16", ">=", 50},  {"G8", "decode of 1 sequence, 8B W4", ">=", 40},
    {"G8", "decode of 1 sequence, 1B W4", ">=", 25},    {"G11", "CPU time of a step, 1 x 8B W4", "<=", 60},
    {"G11", "CPU time of a step, 1 x 1B W4", "<=", 60}, {"G11", "CPU time of a step, 3 x 8B W4", "<=", 60},
    {"G11", "gaps between steps, 1 x 8B W4", "<=", 3},  {"G11", "gaps between steps, 1 x 1B W4", "<=", 3},
    {"G11", "gaps between steps, 3 x 8B W4", "<=", 3},
};

const BenchReport& whole_models() {
  static const BenchReport report("--only=G8,G9,G11");
  return report;
}

TEST(ModelBench, NoCaseIsLeftOutAndEachHasTheLimitOfItsBar) {
  const BenchReport& report = whole_models();
  EXPECT_EQ(report.status, 0);
  EXPECT_EQ(report.num_results(), 12) << report.text;
  EXPECT_FALSE(report.has("\"isRight\": false")) << report.text;
  for (const BoundResult& each : kBoundResults) {
    const std::string line = report.line_of(each.bar, each.what);
    EXPECT_EQ(BenchReport::number(line, "limit"), each.limit) << each.what << report.text;
    EXPECT_NE(line.find(std::string("\"bound\": \"") + each.bound + "\""), std::string::npos) << line;
    EXPECT_GT(BenchReport::number(line, "value"), 0) << line;
  }
}

// Two layers with matrices of 128 x 64, 64 x 64, 192 x 64 and 64 x 96, and a head of 96 x 64. The embedding
// is not read.
TEST(ModelBench, AShareCountsTheWeightsAndTheKvThatAStepReads) {
  constexpr double kLayerWeights = 128 * 64 + 64 * 64 + 192 * 64;
  constexpr double kDownRows = 64;
  constexpr double kHeadWeights = 96 * 64;
  constexpr double kNorms = 5 * 64 * 4;
  constexpr double kKv = 22 * 2 * 2 * 2 * 16 * 2;  // steps of 21, 22 and 23 tokens
  const BenchReport& report = whole_models();
  const std::string bf16 = report.line_of("G8", "decode of 1 sequence, 8B bf16");
  EXPECT_NEAR(BenchReport::number(bf16, "MB") * 1e6,
              2 * (2 * (kLayerWeights + kDownRows * 96) + kHeadWeights) + kNorms + kKv, 1)
      << bf16;
  // 4 bits and a half of scale for 32 of them, in rows of whole 64; the head, or the embedding that it is
  // tied to, 8 bits and one for 16; and each of nine matrices its factors.
  constexpr double kW4Bytes =
      4.5 / 8 * 2 * (kLayerWeights + kDownRows * 128) + 9.0 / 8 * kHeadWeights + 9 * 256 + kNorms + kKv;
  for (const char* what : {"decode of 1 sequence, 8B W4", "decode of 1 sequence, 1B W4"}) {
    const std::string w4 = report.line_of("G8", what);
    EXPECT_NEAR(BenchReport::number(w4, "MB") * 1e6, kW4Bytes, 1) << w4;
  }
  const double copy_rate = BenchReport::number(report.text, "copyRate");
  for (const char* model : {"8B bf16", "8B W4", "1B W4"}) {
    const std::string line = report.line_of("G8", std::string("decode of 1 sequence, ") + model);
    const double seconds = BenchReport::number(line, "microseconds") * 1e-6;
    expect_close(BenchReport::number(line, "value"),
                 100 * BenchReport::number(line, "MB") * 1e6 / seconds / copy_rate, line);
  }
}

TEST(ModelBench, TheHostsBarsAreMicrosecondsOfAStepAndAPartOfIts) {
  const BenchReport& report = whole_models();
  for (const char* model : {"1 x 1B W4", "1 x 8B W4", "3 x 8B W4"}) {
    const std::string cpu = report.line_of("G11", std::string("CPU time of a step, ") + model);
    expect_close(BenchReport::number(cpu, "value"), BenchReport::number(cpu, "microseconds"), cpu);
    const std::string gaps = report.line_of("G11", std::string("gaps between steps, ") + model);
    const double gap = BenchReport::number(gaps, "gap us");
    const double period = BenchReport::number(gaps, "period us");
    expect_close(BenchReport::number(gaps, "value"), 100 * gap / period, gaps);
    EXPECT_TRUE(gap > 0 && gap < period) << gaps;
  }
}

TEST(ModelBench, WithoutLlamaCppItSaysSoAndHasTokensPerSecond) {
  const BenchReport& report = whole_models();
  EXPECT_TRUE(report.has("\"G9\": \"llama.cpp: not named\"")) << report.text;
  const auto expect_rate = [&](const char* what, double num_tokens) {
    const std::string line = report.line_of("G9", what);
    EXPECT_TRUE(std::isnan(BenchReport::number(line, "limit"))) << line;
    expect_close(BenchReport::number(line, "value"),
                 num_tokens * 1e6 / BenchReport::number(line, "microseconds"), line);
  };
  expect_rate("decode of 1 sequence, 8B W4", 1);
  expect_rate("prefill of 512 tokens, 8B W4", 40);
  expect_rate("decode of 32 sequences, 8B W4", 3);
}

TEST(ModelBench, AModelWithoutRoomIsLeftOutWithAWord) {
  const BenchReport report("--only=G8,G9", "AUTOGLM_FAKE_CUDA=total_memory=1200000 ");
  EXPECT_EQ(report.status, 0);
  EXPECT_EQ(report.num_results(), 0) << report.text;
  for (const char* model : {"8B bf16", "8B W4", "1B W4"})
    EXPECT_TRUE(report.has("\"" + std::string(model) + "\": \"G8")) << report.text;
}

// A folder with programs in place of llama.cpp's.
class FakeLlamaCpp {
 public:
  FakeLlamaCpp(const std::string& single, const std::string& batched, int status = 0)
      : folder_(testing::TempDir() + "autoglm llama.cpp " + std::to_string(getpid())) {
    std::filesystem::create_directories(folder_);
    write("llama-bench", single, status);
    write("llama-batched-bench", batched, status);
  }
  ~FakeLlamaCpp() { std::filesystem::remove_all(folder_); }

  std::string options() const { return "--only=G9 '--llama-cpp=" + folder_ + "' --gguf=model.gguf"; }

 private:
  void write(const std::string& name, const std::string& text, int status) const {
    const std::string file = folder_ + "/" + name;
    std::ofstream(file) << "#!/bin/sh\ncat <<'END'\n" << text << "\nEND\nexit " << status << "\n";
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  }

  std::string folder_;
};

TEST(ModelBench, ComparesWithTheMediansOfLlamaCpp) {
  const FakeLlamaCpp peer(R"([{"n_prompt": 512, "n_gen": 0, "avg_ts": 7, "samples_ts": [9, 1e-3, 1e-4]},
                              {"n_prompt": 0, "n_gen": 128, "avg_ts": 7, "samples_ts": [1e8,
                                2e9, 1e9]}])",
                          R"({"n_kv_max": 9216, "pl": 32, "speed_pp": 7.5, "speed_tg": 1e-3, "speed": 3.5}
{"n_kv_max": 9216, "pl": 32, "speed_pp": 7.5, "speed_tg": 1e-4, "speed": 3.5}
{"n_kv_max": 9216, "pl": 32, "speed_pp": 7.5, "speed_tg": 9, "speed": 3.5})");
  const BenchReport report(peer.options());
  EXPECT_EQ(report.status, 0);
  const auto expect_ratio = [&](const char* what, double theirs, double limit) {
    const std::string line = report.line_of("G9", what);
    EXPECT_EQ(BenchReport::number(line, "llama.cpp"), theirs) << line;
    EXPECT_EQ(BenchReport::number(line, "limit"), limit) << line;
    const double ours = (BenchReport::number(line, "tok/s") + BenchReport::number(line, "tok/s again")) / 2;
    expect_close(BenchReport::number(line, "value"), ours / theirs, line);
  };
  expect_ratio("prefill of 512 tokens, 8B W4", 1e-3, 1.2);
  expect_ratio("decode of 1 sequence, 8B W4", 1e9, 1.2);
  expect_ratio("decode of 32 sequences, 8B W4", 1e-3, 1.5);
}

TEST(ModelBench, AFailingLlamaCppIsNamed) {
  const FakeLlamaCpp peer(R"([{"n_prompt": 512, "n_gen": 0}, {"n_prompt": 0, "samples_ts": [5]}])", "{}", 3);
  const BenchReport report(peer.options());
  EXPECT_EQ(report.status, 0);
  EXPECT_TRUE(
      report.has("\"G9\": \"llama-bench ended with status 3; llama-bench gave no rate of prefill; "
                 "llama-batched-bench ended with status 3; llama-batched-bench gave no rate\""))
      << report.text;
  EXPECT_TRUE(std::isnan(BenchReport::number(report.line_of("G9", "prefill of 512 tokens, 8B W4"), "limit")));
  EXPECT_EQ(BenchReport::number(report.line_of("G9", "decode of 1 sequence, 8B W4"), "llama.cpp"), 5);
}

TEST(ModelBench, HalfOfLlamaCppIsNotEnough) {
  EXPECT_TRUE(BenchReport("--only=G9 --gguf=model.gguf").has("but no folder of programs"));
  EXPECT_TRUE(BenchReport("--only=G9 --llama-cpp=folder").has("no model was named"));
}

}  // namespace
}  // namespace autoglm::test
