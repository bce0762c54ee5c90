// llama.cpp's own benchmarks on the same card, where somebody has built them and has a model.
#pragma once

#include <string>
#include <utility>

namespace autoglm::bench {

// Tokens per second, medians of several runs; 0 where there is no figure.
struct LlamaCppRates {
  double prefill = 0;         // of 512 tokens
  double decode = 0;          // of 128 tokens after nothing
  double batched_decode = 0;  // of 32 sequences with prompts of 128
  std::string problem;        // why there is none, of both programs
};

class LlamaCpp {
 public:
  // `folder` has llama-bench and llama-batched-bench, `file` is the GGUF: of the 8B shape, in Q4_0. Both are
  // empty where there is none.
  LlamaCpp(std::string folder, std::string file) : folder_(std::move(folder)), file_(std::move(file)) {}

  bool is_present() const { return !folder_.empty() && !file_.empty(); }
  // "DIR with FILE", or what was not named.
  std::string description() const;
  // Runs both programs, a minute at most.
  LlamaCppRates measure() const;

 private:
  // What the program printed. Adds to `problem` where it failed.
  std::string output_of(const std::string& program, const std::string& options, std::string& problem) const;

  std::string folder_;
  std::string file_;
};

}  // namespace autoglm::bench
