#include "base/numa.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace autoglm {
namespace {

constexpr int kMaxNode = 1023;
constexpr int kMaxCpu = 65'535;

std::optional<int> parse_number(std::string_view text, int most) {
  int value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value >= 0 && value <= most ? std::optional(value) : std::nullopt;
}

std::vector<int> read_list(const std::string& path, int most) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return parse_cpu_list(line, most);
}

#if defined(__linux__)
// A set of processors as the kernel takes it, with room for kMaxCpu.
class CpuSet {
 public:
  CpuSet() : set_(CPU_ALLOC(kMaxCpu + 1)) {
    if (set_ != nullptr) CPU_ZERO_S(size(), set_);
  }
  ~CpuSet() {
    if (set_ != nullptr) CPU_FREE(set_);
  }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;

  bool is_present() const { return set_ != nullptr; }
  bool read_own() { return sched_getaffinity(0, size(), set_) == 0; }
  bool apply() const { return sched_setaffinity(0, size(), set_) == 0; }
  bool has(int cpu) const { return CPU_ISSET_S(static_cast<size_t>(cpu), size(), set_) != 0; }
  void add(int cpu) { CPU_SET_S(static_cast<size_t>(cpu), size(), set_); }

 private:
  static size_t size() { return CPU_ALLOC_SIZE(kMaxCpu + 1); }

  cpu_set_t* set_;
};
#endif

}  // namespace

std::vector<int> parse_cpu_list(std::string_view list, int most) {
  std::vector<int> numbers;
  while (!list.empty()) {
    const std::string_view part = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), part.size() + 1));
    const size_t dash = part.find('-');
    const std::optional<int> first = parse_number(part.substr(0, dash), most);
    const std::optional<int> last =
        dash == std::string_view::npos ? first : parse_number(part.substr(dash + 1), most);
    if (!first || !last || *first > *last) return {};
    for (int number = *first; number <= *last; ++number) numbers.push_back(number);
  }
  std::ranges::sort(numbers);
  numbers.erase(std::ranges::unique(numbers).begin(), numbers.end());
  return numbers;
}

std::vector<NumaNode> numa_nodes(const std::string& root) {
  std::vector<NumaNode> nodes;
#if defined(__linux__)
  CpuSet own;
  if (!own.is_present() || !own.read_own()) return {};
  for (const int id : read_list(root + "/online", kMaxNode)) {
    NumaNode node{.id = id, .cpus = {}};
    std::ranges::copy_if(read_list(root + "/node" + std::to_string(id) + "/cpulist", kMaxCpu),
                         std::back_inserter(node.cpus), [&](int cpu) { return own.has(cpu); });
    if (!node.cpus.empty()) nodes.push_back(std::move(node));
  }
  if (nodes.size() == 1) nodes.clear();
#else
  (void)root;
#endif
  return nodes;
}

const NumaNode& node_of_worker(std::span<const NumaNode> nodes, int worker, int num_threads) {
  return nodes[static_cast<size_t>(worker) * nodes.size() / static_cast<size_t>(num_threads)];
}

void keep_thread_on(const NumaNode& node) {
#if defined(__linux__)
  CpuSet cpus;
  if (!cpus.is_present()) return;
  for (const int cpu : node.cpus) cpus.add(cpu);
  (void)cpus.apply();
#else
  (void)node;
#endif
}

void interleave(std::span<std::byte> memory, std::span<const NumaNode> nodes) {
#if defined(__linux__) && defined(SYS_mbind)
  if (nodes.empty() || memory.empty()) return;
  constexpr int kInterleave = 3;  // MPOL_INTERLEAVE of linux/mempolicy.h
  constexpr size_t kWordBits = sizeof(unsigned long) * 8;
  unsigned long mask[(kMaxNode + 1) / kWordBits] = {};
  for (const NumaNode& node : nodes) {
    const auto id = static_cast<size_t>(node.id);
    mask[id / kWordBits] |= 1ul << (id % kWordBits);
  }
  // The kernel looks at one bit less than it is told.
  (void)syscall(SYS_mbind, memory.data(), memory.size(), kInterleave, mask, kMaxNode + 2, 0);
#else
  (void)memory;
  (void)nodes;
#endif
}

}  // namespace autoglm
