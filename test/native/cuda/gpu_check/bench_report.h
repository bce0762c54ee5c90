// Runs the toy benchmarks and reads their report.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace autoglm::test {

// `environment`: "NAME=value " or nothing. Returns the exit status.
inline int run_bench(const std::string& options, const std::string& environment = "") {
  const std::string command =
      environment + AUTOGLM_GPU_BENCH + " --toy --driver=" + AUTOGLM_FAKE_CUDA + " " + options;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return -1;
  char line[512];
  while (std::fgets(line, sizeof(line), pipe) != nullptr) std::fputs(line, stdout);
  return WEXITSTATUS(pclose(pipe));
}

// The text of the JSON file that one run has written.
class BenchReport {
 public:
  explicit BenchReport(const std::string& options, const std::string& environment = "") {
    const std::string file = testing::TempDir() + "autoglm_gpu_bench_" + std::to_string(getpid()) + ".json";
    status = run_bench(options + " --json=" + file, environment);
    std::ifstream stream(file);
    text = {std::istreambuf_iterator<char>(stream), {}};
    std::remove(file.c_str());
  }

  bool has(const std::string& part) const { return text.find(part) != std::string::npos; }
  // The line of a result, or nothing.
  std::string line_of(const std::string& bar, const std::string& what) const {
    const size_t at = text.find("{\"bar\": \"" + bar + "\", \"what\": \"" + what + "\"");
    return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
  }
  int num_results() const {
    int count = 0;
    for (size_t at = 0; (at = text.find("{\"bar\": ", at)) != std::string::npos; ++at) ++count;
    return count;
  }
  // NaN where there is none.
  static double number(const std::string& from, const std::string& key) {
    const size_t at = from.find("\"" + key + "\": ");
    return at == std::string::npos ? std::nan("") : std::atof(from.c_str() + at + key.size() + 4);
  }

  int status = -1;
  std::string text;
};

}  // namespace autoglm::test
