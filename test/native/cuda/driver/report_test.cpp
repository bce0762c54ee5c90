#include <cstdlib>

#include "driver_fixture.h"

namespace autoglm::test {
namespace {

using cuda::DriverReport;
using cuda::DriverStatus;
using DriverReportTest = FakeCudaTest;

DriverReport inspect_fake() { return cuda::inspect_driver(AUTOGLM_FAKE_CUDA); }

// What a user reads names the problem and says what to do.
void expect_refusal(const DriverReport& report, DriverStatus status, const std::string& problem,
                    const std::string& remedy) {
  EXPECT_EQ(report.status, status);
  EXPECT_FALSE(report.is_ready());
  EXPECT_NE(report.problem.find(problem), std::string::npos) << report.problem;
  EXPECT_NE(report.remedy.find(remedy), std::string::npos) << report.remedy;
}

TEST_F(DriverReportTest, ListsDevicesWithWhatTheyHave) {
  fake.set("num_devices", 2);
  fake.set("total_memory", 123'456'789);
  fake.set("last_compute_capability", 75);
  const DriverReport report = inspect_fake();
  EXPECT_TRUE(report.is_ready()) << report.problem;
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.driver_version, 13'000);
  ASSERT_EQ(report.devices.size(), 2u);
  EXPECT_EQ(report.devices[0].name, "Emulated GPU");
  EXPECT_EQ(report.devices[0].uuid, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
  EXPECT_EQ(report.devices[0].compute_capability, 90);
  EXPECT_EQ(report.devices[0].total_bytes, 123'456'789u);
  EXPECT_EQ(report.devices[0].num_multiprocessors, 4);
  EXPECT_EQ(report.devices[0].max_shared_bytes, 232'448u);
  EXPECT_TRUE(report.devices[0].is_supported);
  EXPECT_EQ(report.devices[1].index, 1);
  EXPECT_EQ(report.devices[1].compute_capability, 75);
  EXPECT_FALSE(report.devices[1].is_supported);
}

TEST_F(DriverReportTest, ALibraryThatIsNotThereIsAReportAndNoException) {
  const DriverReport report = cuda::inspect_driver("libno-such-driver.so.1");
  expect_refusal(report, DriverStatus::library_missing, "libno-such-driver.so.1", "version 580");
  EXPECT_EQ(report.driver_version, 0);
  expect_error(error_of([] { cuda::open_device(0, probe_modules(), "libno-such-driver.so.1"); }),
               ErrorCode::invalid_parameter, "libno-such-driver.so.1");
}

TEST_F(DriverReportTest, ALibraryThatIsNoDriverIsNamedWithWhatItLacks) {
  expect_refusal(cuda::inspect_driver("libm.so.6"), DriverStatus::library_incomplete,
                 "libm.so.6 lacks cuInit", "libcuda");
}

TEST_F(DriverReportTest, AnOldDriverIsToldTheVersionItNeeds) {
  fake.set("driver_version", 12'080);
  const DriverReport report = inspect_fake();
  expect_refusal(report, DriverStatus::driver_too_old, "supports CUDA 12.8, the kernels need 13.0", "580");
  EXPECT_EQ(report.driver_version, 12'080);
  expect_error(error_of([] { open_fake(); }), ErrorCode::invalid_parameter, "12.8");
}

TEST_F(DriverReportTest, NoDeviceNamesTheVariableThatMayHideIt) {
  fake.set("num_devices", 0);
  setenv("CUDA_VISIBLE_DEVICES", "7", 1);
  const DriverReport report = inspect_fake();
  unsetenv("CUDA_VISIBLE_DEVICES");
  expect_refusal(report, DriverStatus::no_device, "CUDA_VISIBLE_DEVICES is '7'", "container");
  expect_error(error_of([] { open_fake(); }), ErrorCode::invalid_parameter, "no GPU");
}

TEST_F(DriverReportTest, ADeviceOlderThanTheKernelsIsNamedWithItsCapability) {
  fake.set("compute_capability", 75);
  const DriverReport report = inspect_fake();
  expect_refusal(report, DriverStatus::no_supported_device, "Emulated GPU has compute capability 7.5",
                 "Ampere");
  ASSERT_EQ(report.devices.size(), 1u) << "doctor lists it all the same";
}

TEST_F(DriverReportTest, AFailingInitializationSaysWhatToDo) {
  fake.set("init_result", cuda::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
  expect_refusal(inspect_fake(), DriverStatus::initialization_failed,
                 "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "reboot");
}

TEST_F(DriverReportTest, ADeviceThatCannotBeAskedIsLeftOut) {
  fake.set("num_devices", 2);
  fake.fail("cuDeviceTotalMem_v2", 1, cuda::CUDA_ERROR_ECC_UNCORRECTABLE);
  const DriverReport report = inspect_fake();
  ASSERT_EQ(report.devices.size(), 1u);
  EXPECT_EQ(report.devices[0].index, 1);
  EXPECT_TRUE(report.is_ready());

  fake.set("num_devices", 1);
  fake.fail("cuDeviceTotalMem_v2", 1, cuda::CUDA_ERROR_ECC_UNCORRECTABLE);
  expect_refusal(inspect_fake(), DriverStatus::no_supported_device,
                 "GPU 0: cuDeviceTotalMem_v2: CUDA_ERROR_ECC_UNCORRECTABLE (214)", "");
  fake.fail("cuDeviceGetCount", 1, cuda::CUDA_ERROR_NOT_INITIALIZED);
  expect_refusal(inspect_fake(), DriverStatus::initialization_failed, "cuDeviceGetCount", "nvidia-smi");
}

TEST_F(DriverReportTest, OpeningRefusesDevicesThatAreNotThereOrNotSupported) {
  fake.set("num_devices", 2);
  fake.set("last_compute_capability", 75);
  for (const int device_idx : {-1, 2}) {
    expect_error(error_of([&] { open_fake(device_idx); }), ErrorCode::invalid_parameter,
                 "expected a GPU in 0..1, got " + std::to_string(device_idx));
  }
  expect_error(error_of([] { open_fake(1); }), ErrorCode::invalid_parameter, "compute capability 7.5");
  EXPECT_EQ(open_fake(0)->device().index, 0);
}

TEST(CudaResults, EachHasItsErrorCode) {
  EXPECT_EQ(cuda::error_code_of(cuda::CUDA_ERROR_OUT_OF_MEMORY), ErrorCode::out_of_memory);
  EXPECT_EQ(cuda::error_code_of(cuda::CUDA_ERROR_INVALID_VALUE), ErrorCode::internal);
  EXPECT_EQ(cuda::error_code_of(cuda::CUDA_ERROR_NO_BINARY_FOR_GPU), ErrorCode::invalid_parameter);
  for (const cuda::CUresult fatal :
       {4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 806, 810, 999}) {
    EXPECT_EQ(cuda::error_code_of(fatal), ErrorCode::device_lost) << fatal;
  }
  for (const cuda::CUresult passing : {0, 1, 2, 100, 101, 209, 400, 500, 600, 701, 801, 900, 910}) {
    EXPECT_FALSE(cuda::is_fatal(passing)) << passing;
  }
}

}  // namespace
}  // namespace autoglm::test
