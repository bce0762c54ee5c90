#include "base/cpu_info.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::string_view kIsaNames[] = {"plain",       "avx2", "avx_vnni", "avx512",
                                          "avx512_bf16", "neon", "neon_i8mm"};

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return std::nullopt;
  return value;
}

// First line of a file, nothing when it cannot be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

#if defined(__x86_64__)
bool has_bit(unsigned value, int bit) { return (value >> bit & 1) != 0; }

// Registers the operating system saves: the xmm and ymm state, and the three parts of the zmm state.
constexpr unsigned kYmmState = 0x6;
constexpr unsigned kZmmState = 0xe6;

bool is_intel() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kGenu = 0x756e6547;  // of "GenuineIntel"
  return __get_cpuid(0, &eax, &ebx, &ecx, &edx) != 0 && ebx == kGenu;
}

std::vector<Isa> probe_isas() {
  std::vector<Isa> isas = {Isa::plain};
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || !has_bit(ecx, 27)) return isas;  // 27: OSXSAVE
  const bool has_fma = has_bit(ecx, 12);
  const bool has_f16c = has_bit(ecx, 29);
  unsigned state = 0, state_high = 0;
  asm("xgetbv" : "=a"(state), "=d"(state_high) : "c"(0));
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return isas;
  const bool has_avx2 = has_bit(ebx, 5);
  if (!has_avx2 || !has_fma || !has_f16c || (state & kYmmState) != kYmmState) return isas;
  isas.insert(isas.begin(), Isa::avx2);
  const bool has_avx512 =
      has_bit(ebx, 16) && has_bit(ebx, 17) && has_bit(ebx, 30) && has_bit(ebx, 31);  // F DQ BW VL
  const bool has_vnni = has_bit(ecx, 11);
  const bool has_zmm = has_avx512 && has_vnni && (state & kZmmState) == kZmmState;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) == 0) eax = 0;
  if (has_bit(eax, 4)) isas.insert(isas.begin(), Isa::avx_vnni);
  if (has_zmm) isas.insert(isas.begin(), Isa::avx512);
  // Intel's vdpbf16ps does twice the work of a multiply-add in four times its time.
  if (has_zmm && has_bit(eax, 5)) isas.insert(isas.begin() + (is_intel() ? 1 : 0), Isa::avx512_bf16);
  return isas;
}

std::string probe_model() {
  unsigned words[12] = {};
  unsigned highest = __get_cpuid_max(0x80000000, nullptr);
  if (highest < 0x80000004) return "";
  for (unsigned i = 0; i < 3; ++i) {
    __get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
  }
  std::string name(reinterpret_cast<const char*>(words), sizeof(words));
  name.resize(name.find('\0') == std::string::npos ? name.size() : name.find('\0'));
  const size_t first = name.find_first_not_of(' ');
  const size_t last = name.find_last_not_of(' ');
  return first == std::string::npos ? "" : name.substr(first, last - first + 1);
}
#elif defined(__aarch64__)
#if defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dot_products() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_matrix_products() { return has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__linux__)
// Bits of the kernel's arch/arm64/include/uapi/asm/hwcap.h: older C libraries do not name them all.
bool has_dot_products() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }
bool has_matrix_products() { return (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }
#else
bool has_dot_products() { return false; }
bool has_matrix_products() { return false; }
#endif

std::vector<Isa> probe_isas() {
  std::vector<Isa> isas = {Isa::plain};
  if (!has_dot_products()) return isas;
  isas.insert(isas.begin(), Isa::neon);
  if (has_matrix_products()) isas.insert(isas.begin(), Isa::neon_i8mm);
  return isas;
}
std::string probe_model() { return ""; }
#else
std::vector<Isa> probe_isas() { return {Isa::plain}; }
std::string probe_model() { return ""; }
#endif

int cores_of_affinity() {
#if defined(__linux__)
  // The kernel refuses a set smaller than its own, so grow until it fits.
  for (int num_cpus = 1024; num_cpus <= 1 << 20; num_cpus *= 4) {
    cpu_set_t* set = CPU_ALLOC(num_cpus);
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(num_cpus);
    const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The tightest limit from `path` up to the root of the hierarchy mounted at `mount`; 0 when there is none.
template <typename CoresOf>
int tightest_limit(const std::string& mount, std::string path, CoresOf&& cores_of) {
  int tightest = 0;
  for (;;) {
    const int cores = cores_of(mount + path);
    if (cores > 0 && (tightest == 0 || cores < tightest)) tightest = cores;
    if (path.empty() || path == "/") return tightest;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

int cores_of_cgroups() {
  int tightest = 0;
  const auto consider = [&](int cores) {
    if (cores > 0 && (tightest == 0 || cores < tightest)) tightest = cores;
  };
  const auto cores_v2 = [](const std::string& folder) {
    return cores_of_cgroup_v2(first_line(folder + "/cpu.max"));
  };
  const auto cores_v1 = [](const std::string& folder) {
    return cores_of_cgroup_v1(first_line(folder + "/cpu.cfs_quota_us"),
                              first_line(folder + "/cpu.cfs_period_us"));
  };
  // Lines are "id:controllers:path"; version 2 has id 0 and no controllers.
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") consider(tightest_limit("/sys/fs/cgroup", path, cores_v2));
    if (controllers.find(",cpu,") != std::string::npos)
      consider(tightest_limit("/sys/fs/cgroup/cpu", path, cores_v1));
  }
  return tightest;
}

}  // namespace

std::string_view name_of(Isa isa) { return kIsaNames[static_cast<int>(isa)]; }

CpuInfo probe_cpu() {
  CpuInfo info;
  info.model = probe_model();
  info.supported_isas = probe_isas();
  info.num_cores = cores_of_affinity();
  const int limit = cores_of_cgroups();
  if (limit > 0) info.num_cores = std::min(info.num_cores, limit);
  return info;
}

Isa choose_isa(const CpuInfo& cpu, std::string_view name) {
  if (name.empty()) return cpu.supported_isas.front();
  std::string supported;
  for (const Isa isa : cpu.supported_isas) {
    if (name_of(isa) == name) return isa;
    supported += (supported.empty() ? "" : ", ") + std::string(name_of(isa));
  }
  throw Error(ErrorCode::invalid_parameter, "expected an instruction set this processor runs (" + supported +
                                                "), got \"" + std::string(name.substr(0, 40)) + "\"");
}

int cores_of_cgroup_v2(std::string_view cpu_max) {
  const size_t space = cpu_max.find(' ');
  if (space == std::string_view::npos) return 0;
  return cores_of_cgroup_v1(cpu_max.substr(0, space), cpu_max.substr(space + 1));
}

int cores_of_cgroup_v1(std::string_view quota_us, std::string_view period_us) {
  const std::optional<int64_t> quota = parse_number(quota_us);
  const std::optional<int64_t> period = parse_number(period_us);
  if (!quota || !period || *quota <= 0 || *period <= 0) return 0;
  const int64_t cores = *quota / *period + (*quota % *period != 0 ? 1 : 0);
  return static_cast<int>(std::min<int64_t>(cores, INT32_MAX));
}

}  // namespace autoglm
