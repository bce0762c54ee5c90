#include "models/llama_cpp.h"

#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace autoglm::bench {
namespace {

constexpr int kLimitSeconds = 30;  // of one program, the load included

std::string shell_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char each : text) quoted += each == '\'' ? std::string("'\\''") : std::string(1, each);
  return quoted + "'";
}

constexpr int kTimedOut = 124;  // timeout's status

void add(std::string& problems, const std::string& problem) {
  if (!problems.empty()) problems += "; ";
  problems += problem;
}

double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// What stands behind "key": after `from`; npos where there is none.
size_t value_of(const std::string& text, const std::string& key, size_t from = 0) {
  const size_t at = text.find("\"" + key + "\"", from);
  const size_t colon = at == std::string::npos ? at : text.find(':', at + key.size() + 2);
  return colon == std::string::npos ? colon : colon + 1;
}

// The median of the rates of llama-bench's test with this many prompt tokens: its objects name the lengths
// first and the samples last.
double rate_of_test(const std::string& text, int num_prompt) {
  for (size_t at = value_of(text, "n_prompt"); at != std::string::npos; at = value_of(text, "n_prompt", at)) {
    if (std::atoi(text.c_str() + at) != num_prompt) continue;
    const size_t samples = value_of(text, "samples_ts", at);
    const size_t next_test = text.find("\"n_prompt\"", at);
    if (samples > next_test) return 0;
    const size_t begin = samples == std::string::npos ? samples : text.find('[', samples);
    if (begin == std::string::npos) return 0;
    std::vector<double> rates;
    for (const char* next = text.c_str() + begin; *next == '[' || *next == ',';) {
      char* end = nullptr;
      rates.push_back(std::strtod(next + 1, &end));
      next = end + std::string_view(end).find_first_not_of(" \n");
    }
    return median_of(std::move(rates));
  }
  return 0;
}

// Of llama-batched-bench's lines.
double batched_rate(const std::string& text) {
  std::vector<double> rates;
  for (size_t at = value_of(text, "speed_tg"); at != std::string::npos; at = value_of(text, "speed_tg", at))
    rates.push_back(std::strtod(text.c_str() + at, nullptr));
  return median_of(std::move(rates));
}

}  // namespace

std::string LlamaCpp::description() const {
  if (is_present()) return folder_ + " with " + file_;
  if (folder_.empty() && file_.empty()) return "not named";
  return folder_.empty() ? "a model was named, but no folder of programs" : "no model was named";
}

std::string LlamaCpp::output_of(const std::string& program, const std::string& options,
                                std::string& problem) const {
  const std::string command = "timeout --foreground " + std::to_string(kLimitSeconds) + " " +
                              shell_quoted(folder_ + "/" + program) + " -m " + shell_quoted(file_) + " " +
                              options + " 2>/dev/null";
  std::string text;
  int status = -1;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char line[4096];
    while (std::fgets(line, sizeof(line), pipe) != nullptr) text += line;
    const int ended = pclose(pipe);
    status = WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
  }
  if (status == kTimedOut) {
    add(problem, program + " was cut off after " + std::to_string(kLimitSeconds) + " s");
  } else if (status != 0) {
    add(problem, program + " ended with status " + std::to_string(status));
  }
  return text;
}

LlamaCppRates LlamaCpp::measure() const {
  if (!is_present()) return {.problem = "llama.cpp: " + description()};
  LlamaCppRates rates;
  const std::string single =
      output_of("llama-bench", "-p 512 -n 128 -r 7 -ngl 99 -fa 1 -o json", rates.problem);
  rates.prefill = rate_of_test(single, 512);
  rates.decode = rate_of_test(single, 0);
  if (rates.prefill == 0) add(rates.problem, "llama-bench gave no rate of prefill");
  if (rates.decode == 0) add(rates.problem, "llama-bench gave no rate of decode");
  const std::string batched = output_of(
      "llama-batched-bench",
      "-c 9216 -b 2048 -ub 512 -npp 128 -ntg 128 -npl 32,32,32,32,32,32,32 -ngl 99 --output-format jsonl",
      rates.problem);
  rates.batched_decode = batched_rate(batched);
  if (rates.batched_decode == 0) add(rates.problem, "llama-batched-bench gave no rate");
  return rates;
}

}  // namespace autoglm::bench
