// Speed of attention on the head counts of Llama-3.2-1B and SmolLM2-135M: one token at depth 4,096, and 512
// tokens at depth 0 and 4,096, each beside its limit measured in the same run: reading the same pages once
// (decode) and a loop of multiply-adds (prefill). Usage: autoglm_attention_bench [threads] [isa] [dtype].
// docs/kernels/attention.md says how to read it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "base/cpu_info.h"
#include "best_seconds.h"
#include "memory/kv_pool.h"
#include "ops/attention.h"
#include "ops/kv_append.h"

namespace autoglm {
namespace {

constexpr int64_t kDepth = 4096;
constexpr int64_t kChunk = 512;
constexpr int kRepeats = 15;

struct Shape {
  const char* name;
  int64_t num_q_heads, num_kv_heads, head_dim, num_layers;
};

// More layers than the caches hold, as in a model's step.
constexpr Shape kShapes[] = {{"Llama-3.2-1B", 32, 8, 64, 16}, {"SmolLM2-135M", 9, 3, 64, 30}};

class Layers {
 public:
  Layers(const Execution& execution, const Shape& shape, KvDtype dtype)
      : execution_(execution), shape_(shape), dtype_(dtype), pool_(page_bytes(), kNumPages) {
    table_.resize(kNumPages);
    std::iota(table_.begin(), table_.end(), 0);
    fill();
  }

  int64_t num_layers() const { return shape_.num_layers; }
  // Of what a token at the given depth reads.
  double bytes() const {
    return static_cast<double>(pages(0).page_bytes() * shape_.num_layers * kDepth / kPageSize);
  }

  void attend(int64_t num_layers, int64_t start, int64_t count) {
    const int64_t cols = shape_.num_q_heads * shape_.head_dim;
    const SequenceSlice slice = {table_.data(), 0, start, count};
    if (plan_.num_rows() != count || planned_start_ != start) {
      scratch_.resize(2 * attention_scratch_floats(kChunk, shape_.num_q_heads, shape_.head_dim));
      plan_.build({&slice, 1}, shape_.num_q_heads, shape_.num_kv_heads, shape_.head_dim,
                  static_cast<int64_t>(scratch_.size()), execution_.pool().num_threads());
      planned_start_ = start;
    }
    out_.resize(count * cols);
    const Execution deferred = execution_.deferred();
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      AttentionParams params;
      params.q = TensorView<const float>(prepared_.data(), count, cols);
      params.num_q_heads = shape_.num_q_heads;
      params.kv = pages(layer);
      params.out = TensorView<float>(out_.data(), count, cols);
      attention(deferred, plan_, params, scratch_);
    }
    deferred.finish();
  }

  // Seconds of reading what a decode step at depth kDepth reads, with nothing computed but a sum.
  double sweep() {
    const int64_t layer_bytes = pages(0).page_bytes() * (kDepth / kPageSize);
    constexpr int64_t kPiece = 1 << 16;
    const int64_t pieces_per_layer = (layer_bytes + kPiece - 1) / kPiece;
    sums_.assign(pieces_per_layer * shape_.num_layers, 0);
    const double start = seconds();
    execution_.run(pieces_per_layer * shape_.num_layers, [&](int64_t piece, int) {
      const int64_t first = piece % pieces_per_layer * kPiece;
      const auto* words = reinterpret_cast<const uint64_t*>(
          pool_.layer(static_cast<size_t>(piece / pieces_per_layer)) + first);
      const int64_t num_words = std::min(kPiece, layer_bytes - first) / 8;
      uint64_t lanes[16] = {};
      for (int64_t i = 0; i + 16 <= num_words; i += 16) {
        for (int lane = 0; lane < 16; ++lane) lanes[lane] += words[i + lane];
      }
      for (const uint64_t lane : lanes) sums_[piece] += lane;
    });
    return seconds() - start;
  }

 private:
  static constexpr int64_t kNumPages = (kDepth + kChunk) / kPageSize;

  KvPages pages(int64_t layer) const {
    KvPages pages;
    pages.dtype = dtype_;
    pages.num_kv_heads = shape_.num_kv_heads;
    pages.head_dim = pages.value_dim = shape_.head_dim;
    pages.page_stride = pages.page_bytes();
    pages.num_pages = kNumPages;
    pages.data = pool_.layer(static_cast<size_t>(layer));
    return pages;
  }

  std::vector<int64_t> page_bytes() const {
    KvPages one;
    one.dtype = dtype_;
    one.num_kv_heads = shape_.num_kv_heads;
    one.head_dim = one.value_dim = shape_.head_dim;
    return std::vector<int64_t>(static_cast<size_t>(shape_.num_layers), one.page_bytes());
  }

  // Random K, V and q, through the operation that a model uses.
  void fill() {
    const int64_t q_cols = shape_.num_q_heads * shape_.head_dim;
    const int64_t k_cols = shape_.num_kv_heads * shape_.head_dim;
    std::vector<float> values(kChunk * q_cols);
    uint32_t state = 1;
    for (float& each : values) {
      state = state * 1664525 + 1013904223;
      each = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
    }
    prepared_.resize(kChunk * q_cols);
    for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
      for (int64_t start = 0; start < kDepth + kChunk; start += kChunk) {
        const SequenceSlice slice = {table_.data(), 0, start, kChunk};
        KvAppendPlan plan;
        plan.build({&slice, 1});
        KvAppendParams append;
        append.q = TensorView<const float>(values.data(), kChunk, q_cols);
        append.k = TensorView<const float>(values.data(), kChunk, k_cols);
        append.v = TensorView<const float>(values.data(), kChunk, k_cols);
        append.num_q_heads = shape_.num_q_heads;
        append.q_scale = query_scale(0.125f, 0);
        append.q_out = TensorView<float>(prepared_.data(), kChunk, q_cols);
        append.kv = pages(layer);
        append_kv(execution_, plan, append);
      }
    }
  }

  Execution execution_;
  Shape shape_;
  KvDtype dtype_;
  KvPool pool_;
  std::vector<int32_t> table_;
  std::vector<float> prepared_, out_, scratch_;
  std::vector<uint64_t> sums_;
  AttentionPlan plan_;
  int64_t planned_start_ = -1;
};

// Sweeps and steps alternate, so that both meet the same neighbours.
void bench_decode(Layers& layers) {
  double step = 1e9, sweep = 1e9;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    sweep = std::min(sweep, layers.sweep());
    const double start = seconds();
    layers.attend(layers.num_layers(), kDepth - 1, 1);
    step = std::min(step, seconds() - start);
  }
  std::printf("  decode at %lld: %.1f us per layer, %.1f GB/s; a sweep reads %.1f GB/s: %.0f %%\n",
              static_cast<long long>(kDepth), step / static_cast<double>(layers.num_layers()) * 1e6,
              layers.bytes() / step * 1e-9, layers.bytes() / sweep * 1e-9, sweep / step * 100);
}

// Half of all pairs of the chunk's own tokens are masked.
void bench_prefill(Layers& layers, const Shape& shape, int64_t start, double peak) {
  constexpr int64_t kLayers = 1;
  const double time = best_seconds(kRepeats / 3, [&] { layers.attend(kLayers, start, kChunk); });
  const double pairs = static_cast<double>(kChunk * start) + 0.5 * static_cast<double>(kChunk * (kChunk + 1));
  const double flops =
      4.0 * pairs * static_cast<double>(shape.num_q_heads * shape.head_dim) * static_cast<double>(kLayers);
  std::printf("  %lld tokens at %lld: %.0f us per layer, %.1f GFLOPS: %.0f %% of %.0f\n",
              static_cast<long long>(kChunk), static_cast<long long>(start),
              time / static_cast<double>(kLayers) * 1e6, flops / time * 1e-9, flops / time / peak * 100,
              peak * 1e-9);
}

#if defined(__x86_64__)
#define AUTOGLM_FMA_TARGET __attribute__((target("avx2,fma")))
#else
#define AUTOGLM_FMA_TARGET
#endif

using Vector = float __attribute__((vector_size(32)));

AUTOGLM_FMA_TARGET inline void multiply_add(Vector& sum, const Vector& factor) {
#if defined(__x86_64__)
  asm("vfmadd213ps %1, %1, %0" : "+x"(sum) : "x"(factor));
#else
  sum = sum * factor + factor;
#endif
}

// Ten independent chains: more than a processor's latency needs. Variables of their own, since GCC keeps an
// array in memory.
AUTOGLM_FMA_TARGET float multiply_add_loop(int64_t num_rounds) {
  const Vector factor = Vector{} + 0.999f;
  Vector a = factor, b = factor, c = factor, d = factor, e = factor;
  Vector f = factor, g = factor, h = factor, i = factor, j = factor;
  for (int64_t round = 0; round < num_rounds; ++round) {
    multiply_add(a, factor), multiply_add(b, factor), multiply_add(c, factor), multiply_add(d, factor);
    multiply_add(e, factor), multiply_add(f, factor), multiply_add(g, factor), multiply_add(h, factor);
    multiply_add(i, factor), multiply_add(j, factor);
  }
  return (a + b + c + d + e + f + g + h + i + j)[0];
}

double peak_flops(const Execution& execution, int num_threads) {
  constexpr int64_t kRounds = 1 << 16;
  std::vector<float> totals(num_threads);
  const double time = best_seconds(20, [&] {
    execution.run(num_threads, [&](int64_t chunk, int) { totals[chunk] = multiply_add_loop(kRounds); });
  });
  return static_cast<double>(kRounds * 10 * 8 * 2 * num_threads) / time;
}

void bench(int num_threads, Isa isa, const std::string& dtype_name) {
  ThreadPool pool(num_threads);
  const Execution execution(pool, isa);
  for (const KvDtype dtype : {KvDtype::bf16, KvDtype::f32, KvDtype::int8}) {
    const std::string name(info_of(dtype).name);
    if (!dtype_name.empty() && dtype_name != name) continue;
    for (const Shape& shape : kShapes) {
      Layers layers(execution, shape, dtype);
      std::printf("%s, %s\n", shape.name, name.c_str());
      bench_decode(layers);
      const double peak = peak_flops(execution, num_threads);
      bench_prefill(layers, shape, 0, peak);
      bench_prefill(layers, shape, kDepth, peak);
    }
  }
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  const autoglm::CpuInfo cpu = autoglm::probe_cpu();
  const int num_threads = argc > 1 ? std::atoi(argv[1]) : cpu.num_cores;
  const autoglm::Isa isa = autoglm::choose_isa(cpu, argc > 2 ? argv[2] : "");
  std::printf("%s, %s, %d threads\n", cpu.model.c_str(), std::string(name_of(isa)).c_str(), num_threads);
  autoglm::bench(num_threads, isa, argc > 3 ? argv[3] : "");
}
