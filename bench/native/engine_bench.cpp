// Our engine without Node: what the npm API's speeds are held against (bench/cpu). Usage:
//   autoglm_engine_bench DESCRIPTION MODEL_FILE THREADS
// DESCRIPTION is what bench/cpu/describe-model.mjs wrote about the file. Each line on standard input, a JSON
// object of numbers and a kind, is answered by a line of JSON:
// {"kind":"decode","batch":8,"tokens":32,"prompt":8},
// {"kind":"prefill","tokens":512}, {"kind":"sweep","tokens":32}, {"kind":"hollow","tokens":32},
// {"kind":"empty","tokens":32}. Beside these, "threads" and "percent" say how to cut the work
// (base/step_cut.h).
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <semaphore>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu_info.h"
#include "base/error.h"
#include "cpu/kernel_table.h"
#include "model_description.h"
#include "ops/execution.h"
#include "plan_writer.h"
#include "runtime/load_job.h"
#include "runtime/model.h"
#include "runtime/step_records.h"

namespace autoglm {
namespace {

constexpr int64_t kNumRows = 64;
constexpr int32_t kPagesPerRow = 64;  // 1,024 tokens
constexpr int64_t kMaxStepTokens = 512;
constexpr size_t kPlanWords = 1 << 16;
constexpr int32_t kFirstToken = 1000;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// In place of a product: zeros, so that what follows has finite numbers.
void write_zeros(const MatmulParams& params, int64_t first_panel, int64_t last_panel, int64_t first_row,
                 int64_t last_row) {
  const int64_t first = first_panel * kPanelRows;
  const int64_t last = std::min(last_panel * kPanelRows, params.weights.n);
  for (int64_t row = first_row; row < last_row; ++row)
    std::fill(params.out.row(row) + first, params.out.row(row) + last, 0.0F);
}

template <typename... Params>
void skip(void (*&kernel)(Params...)) {
  kernel = [](Params...) {};
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::vector<int32_t> prompt_of(int32_t generation, int64_t num_tokens) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < num_tokens; ++i)
    tokens.push_back(kFirstToken + static_cast<int32_t>((generation * 7919 + i * 104729) % 40000));
  return tokens;
}

class EngineBench {
 public:
  EngineBench(const std::string& description, const std::string& file, int num_threads)
      : pool_(num_threads), execution_(pool_, choose_isa(probe_cpu(), "")) {
    LoadRequest request = read_description(description, file);
    request.num_pages = kNumRows * kPagesPerRow;
    request.max_rows = kNumRows;
    request.max_step_tokens = kMaxStepTokens;
    for (size_t slot = 0; slot < plans_.size(); ++slot) {
      plans_[slot].resize(kPlanWords);
      results_[slot].resize(abi::kResultHeaderWords + kNumRows * abi::Limits::resultRowWords);
      request.plans[slot] = plans_[slot];
      request.results[slot] = results_[slot];
    }
    request.cancel = &cancel_;
    std::binary_semaphore done(0);
    LoadJob job(1, std::move(request), num_threads,
                {.on_progress = [] {}, .on_done = [&done] { done.release(); }});
    done.acquire();
    model_ = job.take_model();
  }

  ~EngineBench() { pool_.await_stragglers(); }

  void use(const StepCut& cut) { cut_ = cut; }

  // Tokens per second of all sequences, from the moment when all have their first one.
  double decode(int64_t batch, int64_t num_tokens, int64_t prompt) {
    begin(batch, prompt, num_tokens + 1);
    const double start = seconds();
    for (int64_t i = 0; i < num_tokens; ++i) decode_step(batch, prompt + i);
    return static_cast<double>(batch * num_tokens) / (seconds() - start);
  }

  double prefill(int64_t num_tokens) {
    const double start = seconds();
    begin(1, num_tokens, 1);
    return static_cast<double>(num_tokens) / (seconds() - start);
  }

  struct Sweep {
    double step_seconds, sweep_seconds, cores;
  };

  // Decoding one sequence, each step followed by a bare read of all weights on the same threads.
  Sweep sweep(int64_t num_tokens) {
    begin(1, 16, num_tokens + 1);
    std::vector<double> steps, sweeps;
    const double start = seconds(), cpu_start = cpu_seconds();
    for (int64_t i = 0; i < num_tokens; ++i) {
      const double step_start = seconds();
      decode_step(1, 16 + i);
      const double sweep_start = seconds();
      read_arena();
      steps.push_back(sweep_start - step_start);
      sweeps.push_back(seconds() - sweep_start);
    }
    return {median(steps), median(sweeps), (cpu_seconds() - cpu_start) / (seconds() - start)};
  }

  // Median seconds of a step of one sequence whose products are zeros: what is left are stages, plans,
  // sampling and the other operations; without these too, where `is_empty`.
  double hollow_step(int64_t num_tokens, bool is_empty) {
    cpu::KernelTable kernels = execution_.kernels();
    kernels.matmul_int8 = kernels.matmul_float = write_zeros;
    if (is_empty) {
      skip(kernels.norm);
      skip(kernels.quantize);
      skip(kernels.activate);
      skip(kernels.append_kv);
      skip(kernels.attend);
      skip(kernels.finish_attention);
      skip(kernels.combine);
    }
    begin(1, 16, num_tokens + 1);
    const Execution filled = std::exchange(execution_, Execution(pool_, kernels));
    std::vector<double> steps;
    for (int64_t i = 0; i < num_tokens; ++i) {
      const double start = seconds();
      decode_step(1, 16 + i);
      steps.push_back(seconds() - start);
    }
    pool_.await_stragglers();
    execution_ = filled;
    return median(steps);
  }

 private:
  // Admits `batch` rows and computes their prompts, one step for all.
  void begin(int64_t batch, int64_t prompt, int64_t max_tokens) {
    if (batch > kNumRows || batch * prompt > kMaxStepTokens || prompt + max_tokens > kPagesPerRow * kPageSize)
      throw std::invalid_argument("the batch or its sequences are too long");
    first_generation_ += static_cast<int32_t>(kNumRows);
    PlanWriter plan(cut_);
    for (int32_t row = 0; row < batch; ++row) {
      const int32_t generation = first_generation_ + row;
      plan.admit({.row = row,
                  .generation = generation,
                  .prompt = prompt_of(generation, prompt),
                  .max_tokens = max_tokens,
                  .num_pages = kPagesPerRow,
                  .first_page = row * kPagesPerRow});
      plan.compute(row, generation, 0, prompt);
    }
    run(plan, batch);
  }

  void decode_step(int64_t batch, int64_t position) {
    PlanWriter plan(cut_);
    for (int32_t row = 0; row < batch; ++row) plan.compute(row, first_generation_ + row, position, 1);
    run(plan, batch);
  }

  void run(const PlanWriter& plan, int64_t batch) {
    plan.write_to(plans_[0]);
    model_->run_step(0, execution_);
    const int32_t error = results_[0][abi::ResultHeader::errorCode];
    if (error != 0) throw std::runtime_error("the step failed with code " + std::to_string(error));
    for (int64_t row = 0; row < batch; ++row) {
      const auto at = static_cast<size_t>(abi::kResultHeaderWords + row * abi::Limits::resultRowWords);
      if (results_[0][at + abi::ResultRow::numTokens] != 1)
        throw std::runtime_error("row " + std::to_string(row) + " got no token");
    }
  }

  void read_arena() {
    const MemoryRegion& arena = model_->weights().arena;
    const std::span<const uint64_t> words(reinterpret_cast<const uint64_t*>(arena.data()),
                                          static_cast<size_t>(arena.size()) / 8);
    constexpr size_t kPiece = 1 << 14;
    const auto num_pieces = static_cast<int64_t>((words.size() + kPiece - 1) / kPiece);
    pool_.run(num_pieces, [&](int64_t piece, int) {
      const auto first = static_cast<size_t>(piece) * kPiece;
      uint64_t lanes[16] = {};
      for (size_t i = first; i + 16 <= std::min(first + kPiece, words.size()); i += 16) {
        for (size_t lane = 0; lane < 16; ++lane) lanes[lane] ^= words[i + lane];
      }
      uint64_t sum = 0;
      for (const uint64_t lane : lanes) sum ^= lane;
      sink_.fetch_xor(sum, std::memory_order_relaxed);
    });
  }

  ThreadPool pool_;
  Execution execution_;
  std::array<std::vector<int32_t>, abi::Limits::queueDepth> plans_, results_;
  int32_t cancel_ = 0;
  int32_t first_generation_ = 0;
  StepCut cut_;
  std::atomic<uint64_t> sink_{0};
  std::shared_ptr<Model> model_;
};

// The number that follows "key": in the line.
int64_t number_of(const std::string& line, const std::string& key, int64_t otherwise) {
  const size_t at = line.find("\"" + key + "\":");
  return at == std::string::npos ? otherwise : std::atoll(line.c_str() + at + key.size() + 3);
}

void answer(EngineBench& bench, const std::string& line) {
  const int64_t tokens = number_of(line, "tokens", 32);
  bench.use({.num_threads = static_cast<int>(number_of(line, "threads", 0)),
             .chunk_percent = number_of(line, "percent", StepCut().chunk_percent)});
  const double cpu_start = cpu_seconds(), start = seconds();
  if (line.find("\"sweep\"") != std::string::npos) {
    const EngineBench::Sweep sweep = bench.sweep(tokens);
    std::printf("{\"stepMs\":%.4f,\"sweepMs\":%.4f,\"cores\":%.3f}\n", sweep.step_seconds * 1e3,
                sweep.sweep_seconds * 1e3, sweep.cores);
  } else if (const bool is_empty = line.find("\"empty\"") != std::string::npos;
             is_empty || line.find("\"hollow\"") != std::string::npos) {
    std::printf("{\"stepUs\":%.2f}\n", bench.hollow_step(tokens, is_empty) * 1e6);
  } else {
    const double speed =
        line.find("\"prefill\"") != std::string::npos
            ? bench.prefill(tokens)
            : bench.decode(number_of(line, "batch", 1), tokens, number_of(line, "prompt", 16));
    std::printf("{\"speed\":%.3f,\"cores\":%.3f}\n", speed,
                (cpu_seconds() - cpu_start) / (seconds() - start));
  }
  std::fflush(stdout);
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: autoglm_engine_bench DESCRIPTION MODEL_FILE THREADS\n");
    return 2;
  }
  try {
    autoglm::EngineBench bench(argv[1], argv[2], std::atoi(argv[3]));
    for (std::string line; std::getline(std::cin, line);) autoglm::answer(bench, line);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
