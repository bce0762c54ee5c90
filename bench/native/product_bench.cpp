// Speed of single products, without what stands around them. Usage: autoglm_product_bench THREADS; then each
// line on standard input, such as {"format":"q4_1","rows":512,"n":2048,"k":2048}, is answered by one line of
// JSON: {"gops":...}, a product and its addition being two operations, the best of several runs.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "base/cpu_info.h"
#include "bench_weights.h"
#include "best_seconds.h"
#include "ops/matmul.h"
#include "ops/quantize_rows.h"

namespace autoglm {
namespace {

constexpr int kRuns = 15;

struct Question {
  StoredFormat format;
  int64_t num_rows, n, k;
};

int64_t number_in(const std::string& line, const char* key) {
  const size_t at = line.find("\"" + std::string(key) + "\":");
  return at == std::string::npos ? 0 : std::atoll(line.c_str() + at + std::string(key).size() + 3);
}

bool read_question(const std::string& line, Question& question) {
  struct Name {
    const char* text;
    StoredFormat format;
  };
  constexpr Name kNames[] = {{"\"q4_0\"", StoredFormat::q4_0},
                             {"\"q4_1\"", StoredFormat::q4_1},
                             {"\"q8_0\"", StoredFormat::q8_0},
                             {"\"bf16\"", StoredFormat::bf16}};
  question = {StoredFormat::q4_0, number_in(line, "rows"), number_in(line, "n"), number_in(line, "k")};
  for (const Name& name : kNames) {
    if (line.find(name.text) == std::string::npos) continue;
    question.format = name.format;
    return question.num_rows > 0 && question.n > 0 && question.k > 0 && question.k % 32 == 0;
  }
  return false;
}

double product_gops(ThreadPool& pool, const Execution& execution, const Question& question) {
  const auto& [format, num_rows, n, k] = question;
  Weights weights(format, n, k);
  pack_matrix(pool, weights.matrix, {&weights.source, 1});
  std::vector<float> in(static_cast<size_t>(num_rows * k), 0.5F);
  std::vector<float> out(static_cast<size_t>(num_rows * n));
  const Buffer quantized_bytes(quantized_rows_bytes(num_rows, k));
  MatmulParams params;
  params.weights = weights.matrix;
  params.out = {out.data(), num_rows, n};
  if (weights.matrix.takes_int8()) {
    params.quantized = make_quantized_rows(num_rows, k, quantized_bytes.bytes);
    quantize_rows(execution, {in.data(), num_rows, k}, params.quantized);
  } else {
    params.in = {in.data(), num_rows, k};
  }
  const double time = best_seconds(kRuns, [&] { matmul(execution, params); });
  return 2e-9 * static_cast<double>(num_rows * n * k) / time;
}

void answer_questions(int num_threads) {
  ThreadPool pool(num_threads);
  const Execution execution(pool, choose_isa(probe_cpu(), ""));
  for (std::string line; std::getline(std::cin, line);) {
    Question question;
    if (read_question(line, question)) {
      std::printf("{\"gops\":%.1f}\n", product_gops(pool, execution, question));
    } else {
      std::printf(
          "{\"error\":\"expected a format (q4_0, q4_1, q8_0, bf16), rows, n, and k, a multiple of 32\"}\n");
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) { autoglm::answer_questions(argc > 1 ? std::atoi(argv[1]) : 1); }
