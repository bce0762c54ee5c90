// Measures kernels and whole models on one GPU beside the bars of the plan:
//   autoglm_gpu_bench [--json=FILE] [--only=G1,G4] [--cublaslt=PATH] [--device=0] [--note=KEY=VALUE ...]
//                     [--llama-cpp=DIR --gguf=FILE] [--driver=LIBRARY] [--toy]
// Ends with 1 where an output is wrong or has other bits in a later run; a missed bar is no error.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "operations.h"

namespace autoglm::bench {

namespace {

struct Options {
  LabSettings lab;
  std::string json_file;
  std::string cublaslt;
  std::string llama_cpp;
  std::string gguf;
  std::string only;
  std::vector<std::pair<std::string, std::string>> notes;

  bool wants(const std::string& bar) const {
    return only.empty() || ("," + only + ",").find("," + bar + ",") != std::string::npos;
  }
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (name == "--json") {
      options.json_file = value;
    } else if (name == "--cublaslt") {
      options.cublaslt = value;
    } else if (name == "--llama-cpp") {
      options.llama_cpp = value;
    } else if (name == "--gguf") {
      options.gguf = value;
    } else if (name == "--only") {
      options.only = value;
    } else if (name == "--driver") {
      options.lab.library = value;
    } else if (name == "--device") {
      options.lab.device_idx = std::atoi(value.c_str());
    } else if (name == "--toy") {
      options.lab.is_toy = true;
    } else if (name == "--note") {
      const size_t at = value.find('=');
      options.notes.emplace_back(value.substr(0, at), at == std::string::npos ? "" : value.substr(at + 1));
    } else {
      std::fprintf(stderr, "no option %s; the head of bench/cuda/main.cpp has them all\n", argv[i]);
      return false;
    }
  }
  return true;
}

std::string date() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M", std::gmtime(&now));
  return text;
}

int run(const Options& options) {
  const cuda::DriverReport report = cuda::inspect_driver(options.lab.library);
  if (!report.is_ready()) {
    std::fprintf(stderr, "no GPU: %s; %s\n", report.problem.c_str(), report.remedy.c_str());
    return 3;
  }
  Lab lab(options.lab);
  const CublasLt cublaslt(lab.stream(), options.cublaslt);
  Results results(options.json_file);
  results.note("date", date() + " UTC");
  results.note("card", lab.device().name);
  results.note("computeCapability", lab.device().compute_capability / 10.0);
  results.note("multiprocessors", lab.device().num_multiprocessors);
  results.note("driverApi", report.driver_version / 1000.0);
  results.note("cublasLt", cublaslt.description());
  for (const auto& [key, text] : options.notes) results.note(key, text);
  std::printf("%s, cuBLASLt: %s\n", lab.device().name.c_str(), cublaslt.description().c_str());

  Ceilings ceilings{.copy_rate = lab.copy_rate()};
  results.note("copyRate", ceilings.copy_rate);
  std::printf("copy rate %.3f TB/s\n", ceilings.copy_rate * 1e-12);
  if (options.wants("G4")) measure_products(lab, cublaslt, ceilings, results);
  if (options.wants("G1") || options.wants("G2")) measure_decode_attention(lab, ceilings, results);
  if (options.wants("G3")) measure_prefill_attention(lab, ceilings, results);
  if (options.wants("G5") || options.wants("G6")) measure_quantized_products(lab, ceilings, results);
  if (options.wants("G10")) measure_sampling(lab, results);
  const LlamaCpp llama_cpp(options.llama_cpp, options.gguf);
  results.note("llamaCpp", llama_cpp.description());
  const auto wants = [&options](const std::string& bar) { return options.wants(bar); };
  measure_models(lab, ceilings, llama_cpp, wants, results);

  const double copy_rate_after = lab.copy_rate();
  const double drift = copy_rate_after / ceilings.copy_rate - 1;
  results.note("copyRateAfter", copy_rate_after);
  std::printf("copy rate %.3f TB/s afterwards%s\n", copy_rate_after * 1e-12,
              std::abs(drift) > 0.1 ? ": differs by more than 10 %, the figures are void" : "");
  std::printf("not measured here: G7 (no FP8 product)\n");
  results.print_summary();
  return results.all_are_right() ? 0 : 1;
}

}  // namespace
}  // namespace autoglm::bench

int main(int argc, char** argv) {
  autoglm::bench::Options options;
  if (!autoglm::bench::parse(argc, argv, options)) return 2;
  try {
    return autoglm::bench::run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
