#include "cuda/driver/profiler_range.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace autoglm::test {
namespace {

// The only test with ranges: a process asks for a profiler once.
TEST(ProfilerRange, IsWrittenDownByAProfilerThatAttached) {
  setenv("NVTX_INJECTION64_PATH", AUTOGLM_PROFILER, 1);
  {
    const cuda::ProfilerRange step("step");
    {
      const cuda::ProfilerRange layer("layer");
    }
    {
      const cuda::ProfilerRange layer("head");
    }
  }
  unsetenv("NVTX_INJECTION64_PATH");
  void* profiler = dlopen(AUTOGLM_PROFILER, RTLD_NOW);
  ASSERT_NE(profiler, nullptr);
  const auto recorded = reinterpret_cast<const char* (*)()>(dlsym(profiler, "recorded_ranges"));
  EXPECT_EQ(std::string(recorded()), "<step<layer><head>>");
  dlclose(profiler);
}

}  // namespace
}  // namespace autoglm::test
