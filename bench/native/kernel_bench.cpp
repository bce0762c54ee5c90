// Speed of the kernels on SmolLM2-135M's shapes (Q4_1 body, Q8_0 head): the products of one step at several
// batch sizes and repacking, beside the machine's read bandwidth measured in the same run. Usage:
// autoglm_kernel_bench [threads] [isa]. Prints a table; docs/kernels/matmul.md says how to read it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/cpu_info.h"
#include "bench_weights.h"
#include "best_seconds.h"
#include "ops/activation.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/quantize_rows.h"
#include "quant/repack.h"

namespace autoglm {
namespace {

constexpr int64_t kHidden = 576, kQkv = 960, kFfn = 1536, kVocab = 49152, kNumLayers = 30;

struct Layer {
  Weights qkv{StoredFormat::q4_1, kQkv, kHidden};
  Weights o{StoredFormat::q4_1, kHidden, kHidden};
  Weights gate_up{StoredFormat::q4_1, 2 * kFfn, kHidden};
  Weights down{StoredFormat::q4_1, kHidden, kFfn};
  std::vector<Weights*> all() { return {&qkv, &o, &gate_up, &down}; }
};

// The activations of a step of `num_rows` rows.
struct Step {
  explicit Step(int64_t rows)
      : num_rows(rows),
        floats(rows * (2 * kFfn + 2 * kHidden) * 4),
        int8_hidden(quantized_rows_bytes(rows, kHidden)),
        int8_ffn(quantized_rows_bytes(rows, kFfn)),
        weight(kHidden, 1.0f) {
    wide = {reinterpret_cast<float*>(floats.bytes.data()), rows, 2 * kFfn};
    hidden = {wide.data + rows * 2 * kFfn, rows, kHidden};
    next = {hidden.data + rows * kHidden, rows, kHidden};
    std::fill_n(wide.data, rows * (2 * kFfn + 2 * kHidden), 0.5f);
    quantized_hidden = make_quantized_rows(rows, kHidden, int8_hidden.bytes);
    quantized_ffn = make_quantized_rows(rows, kFfn, int8_ffn.bytes);
  }

  int64_t num_rows;
  Buffer floats, int8_hidden, int8_ffn;
  std::vector<float> weight;
  TensorView<float> wide, hidden, next;
  QuantizedRows quantized_hidden, quantized_ffn;
};

void run_norm(const Execution& execution, Step& step) {
  NormParams params;
  params.epsilon = 1e-5f;
  params.in = step.hidden;
  params.weight = step.weight.data();
  params.quantized = step.quantized_hidden;
  norm(execution, params);
}

void run_product(const Execution& execution, const Weights& weights, const QuantizedRows& in,
                 TensorView<float> out) {
  MatmulParams params;
  params.weights = weights.matrix;
  params.quantized = in;
  params.out = out;
  matmul(execution, params);
}

// All products, norms and activations of one step, without attention.
void run_step(const Execution& execution, std::vector<Layer>& layers, const Weights& head, Step& step,
              int64_t num_logit_rows, std::vector<float>& logits) {
  for (Layer& layer : layers) {
    run_norm(execution, step);
    run_product(execution, layer.qkv, step.quantized_hidden, step.wide.columns(0, kQkv));
    run_product(execution, layer.o, step.quantized_hidden, step.next);
    run_norm(execution, step);
    run_product(execution, layer.gate_up, step.quantized_hidden, step.wide);
    ActivationParams activation;
    activation.gate = step.wide.columns(0, kFfn);
    activation.up = step.wide.columns(kFfn, kFfn);
    activation.quantized = step.quantized_ffn;
    activate(execution, activation);
    run_product(execution, layer.down, step.quantized_ffn, step.next);
  }
  run_norm(execution, step);
  run_product(execution, head, step.quantized_hidden.rows(0, num_logit_rows),
              {logits.data(), num_logit_rows, kVocab});
}

// GB/s of reading the packed weights once, on all threads.
double read_bandwidth(ThreadPool& pool, std::vector<Layer>& layers, const Weights& head) {
  std::vector<std::span<const std::byte>> spans = {head.packed.bytes};
  for (Layer& layer : layers) {
    for (Weights* each : layer.all()) spans.push_back(each->packed.bytes);
  }
  constexpr size_t kPiece = 1 << 16;
  std::vector<std::span<const std::byte>> pieces;
  double total = 0;
  for (const auto& span : spans) {
    for (size_t at = 0; at < span.size(); at += kPiece) {
      pieces.push_back(span.subspan(at, std::min(kPiece, span.size() - at)));
      total += static_cast<double>(pieces.back().size());
    }
  }
  std::vector<uint64_t> sums(pieces.size());
  const double time = best_seconds(10, [&] {
    pool.run(static_cast<int64_t>(pieces.size()), [&](int64_t piece, int) {
      uint64_t lanes[8] = {};
      const auto* words = reinterpret_cast<const uint64_t*>(pieces[piece].data());
      for (size_t i = 0; i + 8 <= pieces[piece].size() / 8; i += 8) {
        for (int lane = 0; lane < 8; ++lane) lanes[lane] += words[i + lane];
      }
      for (const uint64_t lane : lanes) sums[piece] += lane;
    });
  });
  return total / time * 1e-9;
}

void bench_products(const Execution& execution, std::vector<Layer>& layers, const Weights& head) {
  double weights = 0, body_bytes = 0;
  for (Weights* each : layers[0].all()) {
    weights += static_cast<double>(each->matrix.n * each->matrix.k);
    body_bytes += static_cast<double>(each->packed.bytes.size());
  }
  const double head_weights = static_cast<double>(kVocab * kHidden);
  const double bytes = body_bytes * kNumLayers + static_cast<double>(head.packed.bytes.size());
  std::printf("%8s %10s %12s %10s %10s\n", "rows", "ms", "tokens/s", "GOPS", "GB/s");
  for (const int64_t num_rows : {1, 2, 4, 8, 16, 32, 512}) {
    Step step(num_rows);
    const int64_t num_logit_rows = num_rows == 512 ? 1 : num_rows;
    std::vector<float> logits(num_logit_rows * kVocab);
    const auto run = [&] { run_step(execution, layers, head, step, num_logit_rows, logits); };
    run();
    const double time = best_seconds(num_rows == 512 ? 5 : 20, run);
    const double products = weights * kNumLayers * static_cast<double>(num_rows) +
                            head_weights * static_cast<double>(num_logit_rows);
    std::printf("%8lld %10.3f %12.0f %10.0f %10.1f\n", static_cast<long long>(num_rows), time * 1e3,
                static_cast<double>(num_rows) / time, 2e-9 * products / time, bytes / time * 1e-9);
  }
}

void bench_repack(ThreadPool& pool, std::vector<Layer>& layers, Weights& head) {
  double bytes = static_cast<double>(head.stored.bytes.size());
  for (Layer& layer : layers) {
    for (Weights* each : layer.all()) bytes += static_cast<double>(each->stored.bytes.size());
  }
  const double time = best_seconds(3, [&] {
    pack_matrix(pool, head.matrix, {&head.source, 1});
    for (Layer& layer : layers) {
      for (Weights* each : layer.all()) pack_matrix(pool, each->matrix, {&each->source, 1});
    }
  });
  std::printf("repack: %.0f MB in %.1f ms\n", bytes * 1e-6, time * 1e3);
}

void bench_stages(ThreadPool& pool) {
  const double time = best_seconds(20, [&] {
    for (int stage = 0; stage < 100; ++stage) pool.run(16, [](int64_t, int) {});
  });
  std::printf("empty stage of 16 chunks: %.2f us\n", time * 1e4);
}

void bench(int num_threads, Isa isa) {
  ThreadPool pool(num_threads);
  const Execution execution(pool, isa);
  std::vector<Layer> layers(kNumLayers);
  Weights head(StoredFormat::q8_0, kVocab, kHidden);
  bench_repack(pool, layers, head);
  bench_stages(pool);
  std::printf("read bandwidth: %.1f GB/s\n", read_bandwidth(pool, layers, head));
  bench_products(execution, layers, head);
  std::printf("read bandwidth: %.1f GB/s\n", read_bandwidth(pool, layers, head));
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  const autoglm::CpuInfo cpu = autoglm::probe_cpu();
  const int num_threads = argc > 1 ? std::atoi(argv[1]) : cpu.num_cores;
  const autoglm::Isa isa = autoglm::choose_isa(cpu, argc > 2 ? argv[2] : "");
  std::printf("%s, %s, %d threads\n", cpu.model.c_str(), std::string(name_of(isa)).c_str(), num_threads);
  autoglm::bench(num_threads, isa);
}
