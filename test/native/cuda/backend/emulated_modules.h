// The kernels of every area as modules of the fake driver, which knows them by name.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "cuda/driver/embedded_kernels.h"

namespace autoglm::test {

#define AUTOGLM_ENTRY(entry, Args) #entry,
inline constexpr const char* kAttentionEntries[] = {
#include "attention/entries.def"
};
inline constexpr const char* kExpertEntries[] = {
#include "experts/entries.def"
};
inline constexpr const char* kGemmEntries[] = {
#include "gemm/entries.def"
};
inline constexpr const char* kHeadEntries[] = {
#include "heads/entries.def"
};
inline constexpr const char* kQuantizedEntries[] = {
#include "quantized/entries.def"
};
inline constexpr const char* kRowEntries[] = {
#include "rows/entries.def"
};
inline constexpr const char* kSamplingEntries[] = {
#include "sampling/entries.def"
};
#undef AUTOGLM_ENTRY

inline std::span<const cuda::EmbeddedModule> emulated_modules() {
  static constexpr std::byte kImage[16] = {};  // any image is a module
  static constexpr std::array<cuda::EmbeddedModule, 7> kModules = {{{kImage, kAttentionEntries},
                                                                    {kImage, kExpertEntries},
                                                                    {kImage, kGemmEntries},
                                                                    {kImage, kHeadEntries},
                                                                    {kImage, kQuantizedEntries},
                                                                    {kImage, kRowEntries},
                                                                    {kImage, kSamplingEntries}}};
  return kModules;
}

}  // namespace autoglm::test
