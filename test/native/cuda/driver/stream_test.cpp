#include "cuda/driver/stream.h"

#include "cuda/driver/graph.h"
#include "cuda/rows/norm.h"
#include "driver_fixture.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

using StreamTest = FakeCudaTest;
using GraphTest = FakeCudaTest;
using LaunchTest = FakeCudaTest;

TEST_F(StreamTest, CopiesFillsAndWaits) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  const DeviceFloats first(stream, {1, 2, 3, 4});
  const DeviceFloats second(stream, {0, 0, 0, 0});
  stream.copy_on_device(second.data() + 1, first.data(), 8);
  stream.fill(second.data() + 3, 0xff, 4);
  EXPECT_FALSE(stream.is_idle());
  const std::vector<float> found = second.read(stream);
  EXPECT_EQ(found[0], 0);
  EXPECT_EQ(found[1], 1);
  EXPECT_EQ(found[2], 2);
  EXPECT_TRUE(std::isnan(found[3]));
  EXPECT_TRUE(stream.is_idle());
}

TEST_F(StreamTest, OrdinaryMemoryMayChangeAsSoonAsACopyFromItReturns) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  std::vector<float> source{1, 2};
  const DeviceFloats copied(stream, source);
  source = {9, 9};
  EXPECT_EQ(copied.read(stream), (std::vector<float>{1, 2}));
}

TEST_F(StreamTest, APinnedResultIsThereOnceItsEventIsReached) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  cuda::Event event(context);
  EXPECT_TRUE(event.is_reached()) << "never recorded";
  const DeviceFloats values(stream, {7});
  const cuda::PinnedMemory result(context, 4);
  stream.copy_to_host(result.data(), values.data(), 4);
  stream.record(event);
  EXPECT_TRUE(std::isnan(*result.as<float>())) << "the fake driver shows whoever reads too early";
  EXPECT_FALSE(event.is_reached());
  event.synchronize();
  EXPECT_TRUE(event.is_reached());
  EXPECT_EQ(*result.as<float>(), 7);
}

TEST_F(StreamTest, AStreamWaitsForAnotherOnesEvent) {
  const auto context = open_fake();
  cuda::Stream first(context);
  cuda::Stream second(context);
  cuda::Event event(context);
  const DeviceFloats values(second, {0});
  second.synchronize();
  const float seven = 7;
  first.copy_to_device(values.data(), &seven, 4);
  EXPECT_EQ(values.read(second), std::vector<float>{0}) << "nothing orders two streams";
  first.record(event);
  second.wait_for(event);
  EXPECT_EQ(values.read(second), std::vector<float>{7});
}

cuda::NormArgs norm_args(const float* in, const float* weight, float* out, int32_t rows, int32_t cols) {
  cuda::NormArgs args;
  args.in = in;
  args.weight = weight;
  args.out = out;
  args.num_rows = rows;
  args.num_cols = cols;
  args.epsilon = 1e-5f;
  return args;
}

TEST_F(LaunchTest, AKernelGivesTheSameBitsAsOnTheEmulatorItself) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  for (const int32_t cols : {64, 260, 1023}) {
    Random random(static_cast<uint64_t>(cols));
    constexpr int32_t kRows = 3;
    const std::vector<float> in = random.normals(kRows * cols);
    const std::vector<float> weight = random.normals(cols);
    std::vector<float> expected(in.size());
    const cuda::NormArgs on_host = norm_args(in.data(), weight.data(), expected.data(), kRows, cols);
    test::launch(cuda::norm_launch(on_host), on_host, schedule_of(0));

    const DeviceFloats device_in(stream, in);
    const DeviceFloats device_weight(stream, weight);
    const DeviceFloats out(stream, std::vector<float>(in.size()));
    const auto args = norm_args(device_in.data(), device_weight.data(), out.data(), kRows, cols);
    for (const int64_t order : {0, 1, 2}) {
      fake.set("order", order);
      stream.fill(out.data(), 0xff, in.size() * 4);
      cuda::launch(stream, cuda::norm_launch(args), args);
      EXPECT_EQ(out.read(stream), expected) << cols << " columns, schedule " << order;
    }
  }
}

TEST_F(LaunchTest, NothingToDoLaunchesNothing) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  const cuda::NormArgs args;
  cuda::launch(stream, cuda::norm_launch(args), args);
  stream.synchronize();
  EXPECT_EQ(fake.count("launches"), 0);
}

TEST_F(LaunchTest, ModulesAreLoadedWhenFirstNeededOrAllAtOnce) {
  auto context = open_fake();
  cuda::Stream stream(context);
  EXPECT_EQ(fake.count("modules"), 0);
  const DeviceFloats values(stream, {1});
  for (int i = 0; i < 3; ++i) {
    launch(stream, cuda::kScaleProbe, cuda::ProbeArgs{values.data(), values.data(), 1, 2});
  }
  launch(stream, cuda::kDynamicProbe, cuda::ProbeArgs{values.data(), values.data(), 1, 2});
  EXPECT_EQ(fake.count("modules"), 1) << "two entries of one module";
  expect_error(error_of([&] { context->kernels().load_all(); }), ErrorCode::internal,
               "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500), named symbol not found: "
               "probe_that_the_image_lacks");
}

TEST_F(LaunchTest, MoreSharedMemoryThanIsStaticIsOptedInTo) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  const DeviceFloats in(stream, {1, 2, 3});
  const DeviceFloats out(stream, {0, 0, 0});
  for (const cuda::LaunchShape& shape : {cuda::kDynamicProbe, cuda::kStaticProbe}) {
    stream.fill(out.data(), 0xff, 12);
    launch(stream, shape, cuda::ProbeArgs{out.data(), in.data(), 3, 10});
    EXPECT_EQ(out.read(stream), (std::vector<float>{30, 20, 10})) << shape.kernel;
  }
}

TEST_F(LaunchTest, MoreSharedMemoryThanTheDeviceHasIsNamed) {
  fake.set("max_shared_bytes", 50'000);
  const auto context = open_fake();
  cuda::Stream stream(context);
  expect_error(error_of([&] { launch(stream, cuda::kDynamicProbe, cuda::ProbeArgs{}); }), ErrorCode::internal,
               "probe_dynamic wants 61440 bytes of shared memory, Emulated GPU has 50000");
}

TEST_F(LaunchTest, MistakesAreNamed) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  const auto expect_mistake = [&](const cuda::LaunchShape& shape, const std::string& part) {
    expect_error(error_of([&] { launch(stream, shape, cuda::ProbeArgs{}); }), ErrorCode::internal, part);
  };
  expect_mistake({.kernel = "no_such_kernel", .num_threads = 1},
                 "no embedded module has a kernel named no_such_");
  expect_mistake({.kernel = "norm_by_4", .num_threads = 256}, "another build");
  expect_mistake(
      {.kernel = "probe_scale", .grid_y = 65'536, .num_threads = 64},
      "cuLaunchKernel: CUDA_ERROR_INVALID_VALUE (1), invalid argument: probe_scale with a grid of 1 x "
      "65536, 64 threads");
}

TEST_F(LaunchTest, ADeviceWithoutCodeInTheModulesIsNamedWithTheLinkersWords) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  fake.fail("cuModuleLoadDataEx", 1, cuda::CUDA_ERROR_NO_BINARY_FOR_GPU);
  const Error error = error_of([&] { launch(stream, cuda::kScaleProbe, cuda::ProbeArgs{}); });
  expect_error(error, ErrorCode::invalid_parameter,
               "module with kernel probe_scale for compute capability 9.0");
  expect_error(error, ErrorCode::invalid_parameter, "the emulated linker refuses this image");
  EXPECT_FALSE(context->is_lost());
}

// What the fake driver notices of kernels and their arguments: each spoils the context, and says how.
TEST_F(LaunchTest, TheFakeDriverNoticesWhatADeviceWouldNotForgive) {
  const auto expect_fault = [&](const cuda::LaunchShape& shape, bool has_host_pointer,
                                const std::string& part) {
    const auto context = open_fake();
    cuda::Stream stream(context);
    const DeviceFloats values(stream, std::vector<float>(8));
    const float on_host[8] = {};
    launch(stream, shape, cuda::ProbeArgs{values.data(), has_host_pointer ? on_host : values.data(), 8, 1});
    expect_error(error_of([&] { stream.synchronize(); }), ErrorCode::device_lost, part);
  };
  expect_fault(cuda::kScaleProbe, true,
               "the argument of probe_scale has an address of host memory at byte 8");
  expect_fault(cuda::kOverrunProbe, false, "probe_overrun wrote 0 bytes behind an allocation of 32 bytes");
  expect_fault(cuda::kDeadlockProbe, false, "probe_deadlock: block (0, 0, 0): no thread can go on");
  cuda::LaunchShape too_small = cuda::kDynamicProbe;
  too_small.shared_bytes -= 4;
  expect_fault(too_small, false, "shared storage of 61440 bytes, launched with 61436 dynamic ones");
}

TEST_F(StreamTest, TheFakeDriverNoticesCopiesOutsideOfMemory) {
  const auto expect_fault = [&](auto&& body) {
    const auto context = open_fake();
    cuda::Stream stream(context);
    cuda::DeviceMemory memory(context, 8);
    body(stream, memory);
    expect_error(error_of([&] { stream.synchronize(); }), ErrorCode::device_lost, "ILLEGAL_ADDRESS");
  };
  static const float kSource[3] = {};
  expect_fault([](cuda::Stream& stream, cuda::DeviceMemory& memory) {
    stream.copy_to_device(memory.data(), kSource, 12);
  });
  expect_fault(
      [](cuda::Stream& stream, cuda::DeviceMemory& memory) { stream.fill(memory.data() + 4, 0, 5); });
  expect_fault([](cuda::Stream& stream, cuda::DeviceMemory& memory) {
    cuda::PinnedMemory pinned(stream.shared_context(), 8);
    stream.copy_to_device(memory.data(), pinned.data(), 8);
  });
}

TEST_F(GraphTest, ReplaysKernelsAndCopiesWithTheirArguments) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  const DeviceFloats values(stream, {1, 2});
  cuda::PinnedMemory result(context, 8);
  const cuda::Graph graph = cuda::capture(stream, [&] {
    cuda::ProbeArgs args{values.data(), values.data(), 2, 3};
    launch(stream, cuda::kScaleProbe, args);
    args.factor = 1000;  // the launch has taken its own copy
    stream.copy_to_host(result.data(), values.data(), 8);
  });
  stream.synchronize();
  EXPECT_EQ(fake.count("launches"), 0) << "recorded, not run";
  cuda::GraphExec exec(graph);
  for (const float expected : {3.0f, 9.0f, 27.0f}) {
    exec.launch(stream);
    EXPECT_TRUE(std::isnan(result.as<float>()[0]));
    stream.synchronize();
    EXPECT_EQ(result.as<float>()[0], expected);
    EXPECT_EQ(result.as<float>()[1], 2 * expected);
  }
}

TEST_F(GraphTest, AnExceptionWhileRecordingLeavesTheStreamUsable) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  expect_error(error_of([&] { cuda::capture(stream, [] { throw Error(ErrorCode::aborted, "stop"); }); }),
               ErrorCode::aborted, "stop");
  EXPECT_EQ(fake.count("graphs"), 0);
  EXPECT_EQ(DeviceFloats(stream, {4}).read(stream), std::vector<float>{4});
}

TEST_F(GraphTest, WaitingWhileRecordingIsAnErrorAndNotALostGraph) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  expect_error(error_of([&] { cuda::capture(stream, [&] { stream.synchronize(); }); }), ErrorCode::internal,
               "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)");
  EXPECT_TRUE(stream.is_idle());
}

}  // namespace
}  // namespace autoglm::test
