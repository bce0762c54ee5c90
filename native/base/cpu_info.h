// What this processor offers and how much of it this process may use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

// A processor runs those of its family only, and prefers the later ones.
enum class Isa : uint8_t { plain, avx2, avx_vnni, avx512, avx512_bf16, neon, neon_i8mm };

// The same words: "avx2", "avx512_bf16".
std::string_view name_of(Isa isa);

struct CpuInfo {
  std::string model;                // as the kernel calls it; empty where unknown
  std::vector<Isa> supported_isas;  // best first, never empty
  int num_cores = 1;                // affinity mask and cgroup quota (v1, v2) considered, at least 1
};

CpuInfo probe_cpu();

// The best supported set for an empty name, else the named one. Throws invalid_parameter for a name that is
// unknown or that this processor does not run, with the names it does.
Isa choose_isa(const CpuInfo& cpu, std::string_view name);

// Whole cores of a cgroup limit, rounded up; 0 when there is none. The texts are those of `cpu.max` (v2: "max
// 100000" or "150000 100000") and of `cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1: -1 means no limit).
int cores_of_cgroup_v2(std::string_view cpu_max);
int cores_of_cgroup_v1(std::string_view quota_us, std::string_view period_us);

}  // namespace autoglm
