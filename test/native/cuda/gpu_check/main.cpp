// Runs the tests of all kernels on one device:
//   autoglm_gpu_check [--driver=libcuda.so.1] [--device=0] [--gtest_filter=...]
// AUTOGLM_CHECK_SHAPES says how many random shapes each test takes.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "cuda/driver/device_registry.h"
#include "device_launch.h"

namespace {

#if defined(AUTOGLM_FAKE_CUDA)
constexpr const char* kDefaultDriver = AUTOGLM_FAKE_CUDA;
#else
constexpr const char* kDefaultDriver = autoglm::cuda::kDriverLibrary;
#endif

bool parse(int argc, char** argv, autoglm::gpu_check::Settings& settings) {
  constexpr std::string_view kDriver = "--driver=";
  constexpr std::string_view kDevice = "--device=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option.starts_with(kDriver)) {
      settings.library = option.substr(kDriver.size());
    } else if (option.starts_with(kDevice)) {
      settings.device_idx = std::atoi(argv[i] + kDevice.size());
    } else {
      std::fprintf(stderr, "no option %s; there are --driver=LIBRARY, --device=INDEX and --gtest_*\n",
                   argv[i]);
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  autoglm::gpu_check::Settings settings{kDefaultDriver, 0, autoglm::cuda::embedded_modules()};
  if (!parse(argc, argv, settings)) return 2;
  const autoglm::cuda::DriverReport report = autoglm::cuda::inspect_driver(settings.library);
  if (!report.is_ready()) {
    std::fprintf(stderr, "no GPU: %s; %s\n", report.problem.c_str(), report.remedy.c_str());
    return 3;
  }
  autoglm::gpu_check::configure(settings);
  const int status = RUN_ALL_TESTS();
  const auto num_launches = static_cast<long long>(autoglm::gpu_check::close_device());
  std::printf("%lld launches, %d random shapes a test\n", num_launches, autoglm::gpu_check::num_shapes());
  return status;
}
