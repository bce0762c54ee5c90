// What the machine can do at this moment: bytes read per second and products per second, on a number of
// threads. Usage: autoglm_machine_probe THREADS; then each line on standard input is answered by one line of
// JSON. Benchmarks ask before and after what they measure. The limits are the best of several short runs:
// neighbours only ever make a run slower.
//
// int8: one product of signed and unsigned bytes with int32 sums. AVX2 has no instruction for it, so its
// limit is the chain vpmaddubsw, vpmaddwd with ones, vpaddd: exact for any operands. int8Late adds eight
// vpmaddubsw in int16 before it widens, which is exact for 4-bit weights only. AVX-512 VNNI does the first in
// one vpdpbusd.
#include <sys/mman.h>

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr size_t kSweepBytes = size_t{384} << 20;  // far more than any cache
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int kSweeps = 8;
constexpr int kPeakRuns = 6;
constexpr int64_t kPeakSteps = 1 << 22;
constexpr int kChains = 8;  // independent accumulators: more than latency times throughput of any chain here

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Keeps the calling thread on the n-th processor that the process may use: two threads on one of them would
// show half of the machine.
void pin(int n) {
#if defined(__linux__)
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) == 0) return;
  n %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || n-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    return;
  }
#else
  static_cast<void>(n);
#endif
}

// Seconds from the moment when all threads are ready until the last one is done.
double time_on_threads(int num_threads, const std::function<void(int)>& body) {
  std::atomic<int> num_ready{0};
  std::atomic<bool> may_start{false};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < num_threads; ++thread) {
    threads.emplace_back([&, thread] {
      pin(thread);
      num_ready.fetch_add(1);
      while (!may_start.load()) std::this_thread::yield();
      body(thread);
    });
  }
  while (num_ready.load() < num_threads) std::this_thread::yield();
  const double start = seconds();
  may_start.store(true);
  for (std::thread& thread : threads) thread.join();
  return seconds() - start;
}

// What loops compute must be wanted by someone.
std::atomic<uint64_t> sink{0};

#if defined(__x86_64__)
template <typename Lane>
void keep(const Lane& lane) {
  uint64_t word;
  __builtin_memcpy(&word, &lane, sizeof(word));
  sink.fetch_add(word, std::memory_order_relaxed);
}

// Each runs kPeakSteps steps and gives the operations (a product and its addition are two) of one step.
__attribute__((target("avx2"))) int64_t int8_avx2() {
  __m256i sums[kChains], unsigned_bytes = _mm256_set1_epi8(3), signed_bytes = _mm256_set1_epi8(5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t step = 0; step < kPeakSteps; ++step) {
    for (__m256i& sum : sums) {
      asm volatile("" : "+x"(unsigned_bytes));  // else the product would be taken out of the loop
      const __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
  }
  for (const __m256i& sum : sums) keep(sum);
  return int64_t{kChains} * 64;
}

__attribute__((target("avx2"))) int64_t int8_late_avx2() {
  __m256i sums[kChains], unsigned_bytes = _mm256_set1_epi8(3), signed_bytes = _mm256_set1_epi8(5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t step = 0; step < kPeakSteps / 8; ++step) {
    for (__m256i& sum : sums) {
      __m256i pairs = _mm256_setzero_si256();
      for (int k = 0; k < 8; ++k) {
        asm volatile("" : "+x"(unsigned_bytes));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(unsigned_bytes, signed_bytes));
      }
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
  }
  for (const __m256i& sum : sums) keep(sum);
  return int64_t{kChains} * 64;
}

__attribute__((target("avx2,fma"))) int64_t f32_avx2() {
  __m256 sums[kChains], left = _mm256_set1_ps(1e-3F), right = _mm256_set1_ps(1e-3F);
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t step = 0; step < kPeakSteps; ++step) {
    for (__m256& sum : sums) {
      asm volatile("" : "+x"(left));
      sum = _mm256_fmadd_ps(left, right, sum);
    }
  }
  for (const __m256& sum : sums) keep(sum);
  return int64_t{kChains} * 16;
}

__attribute__((target("avx512f,avx512vnni"))) int64_t int8_vnni() {
  __m512i sums[kChains], unsigned_bytes = _mm512_set1_epi8(3), signed_bytes = _mm512_set1_epi8(5);
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t step = 0; step < kPeakSteps; ++step) {
    for (__m512i& sum : sums) {
      asm volatile("" : "+v"(unsigned_bytes));
      sum = _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
    }
  }
  for (const __m512i& sum : sums) keep(sum);
  return int64_t{kChains} * 128;
}

__attribute__((target("avx512f"))) int64_t f32_avx512() {
  __m512 sums[kChains], left = _mm512_set1_ps(1e-3F), right = _mm512_set1_ps(1e-3F);
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t step = 0; step < kPeakSteps; ++step) {
    for (__m512& sum : sums) {
      asm volatile("" : "+v"(left));
      sum = _mm512_fmadd_ps(left, right, sum);
    }
  }
  for (const __m512& sum : sums) keep(sum);
  return int64_t{kChains} * 32;
}
#endif

// Operations per second in units of 10^9.
double peak(int num_threads, int64_t (*loop)()) {
  double best = 0;
  for (int run = 0; run < kPeakRuns; ++run) {
    std::atomic<int64_t> operations_per_step{0};
    const double time = time_on_threads(num_threads, [&](int) { operations_per_step.store(loop()); });
    const double operations =
        static_cast<double>(operations_per_step.load()) * static_cast<double>(kPeakSteps) * num_threads;
    best = std::max(best, operations / time * 1e-9);
  }
  return best;
}

class Probe {
 public:
  explicit Probe(int num_threads) : num_threads_(num_threads) {
    const size_t size = kSweepBytes + kHugePage;
    void* mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
      std::perror("mmap");
      std::exit(1);
    }
    const auto start = (reinterpret_cast<uintptr_t>(mapping) + kHugePage - 1) / kHugePage * kHugePage;
    words_ = reinterpret_cast<uint64_t*>(start);
#if defined(MADV_HUGEPAGE)
    madvise(words_, kSweepBytes, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < kSweepBytes / 8; ++i) words_[i] = i;
  }

  // Bytes read per second in units of 10^9.
  double bandwidth() const {
    const size_t words_per_thread = kSweepBytes / 8 / static_cast<size_t>(num_threads_);
    double best = 0;
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      const double time = time_on_threads(num_threads_, [&](int thread) {
        const uint64_t* words = words_ + static_cast<size_t>(thread) * words_per_thread;
        uint64_t lanes[16] = {};
        for (size_t i = 0; i + 16 <= words_per_thread; i += 16) {
          for (size_t lane = 0; lane < 16; ++lane) lanes[lane] ^= words[i + lane];
        }
        for (const uint64_t lane : lanes) sink.fetch_add(lane, std::memory_order_relaxed);
      });
      best = std::max(best, static_cast<double>(kSweepBytes) / time * 1e-9);
    }
    return best;
  }

  std::string answer() const {
    char line[512];
    const double read = bandwidth();
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni")) {
      std::snprintf(line, sizeof(line),
                    R"({"readGBs":%.2f,"int8Gops":%.1f,"f32Gflops":%.1f,"int8":"vpdpbusd zmm"})", read,
                    peak(num_threads_, int8_vnni), peak(num_threads_, f32_avx512));
      return line;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      std::snprintf(line, sizeof(line),
                    R"({"readGBs":%.2f,"int8Gops":%.1f,"int8LateGops":%.1f,"f32Gflops":%.1f,)"
                    R"("int8":"vpmaddubsw + vpmaddwd + vpaddd ymm"})",
                    read, peak(num_threads_, int8_avx2), peak(num_threads_, int8_late_avx2),
                    peak(num_threads_, f32_avx2));
      return line;
    }
#endif
    std::snprintf(line, sizeof(line), R"({"readGBs":%.2f})", read);
    return line;
  }

 private:
  int num_threads_;
  uint64_t* words_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  const int num_threads = argc > 1 ? std::atoi(argv[1]) : 0;
  if (num_threads < 1) {
    std::fprintf(stderr, "usage: autoglm_machine_probe THREADS\n");
    return 2;
  }
  const Probe probe(num_threads);
  for (std::string line; std::getline(std::cin, line);) std::cout << probe.answer() << std::endl;
}
