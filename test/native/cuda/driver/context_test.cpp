#include <thread>

#include "cuda/driver/graph.h"
#include "cuda/driver/uploader.h"
#include "driver_fixture.h"

namespace autoglm::test {
namespace {

using ContextTest = FakeCudaTest;

TEST_F(ContextTest, IsSharedWhileHeldAndMadeAnewAfterwards) {
  auto first = open_fake();
  EXPECT_EQ(open_fake(), first);
  EXPECT_EQ(fake.count("contexts"), 1);
  first.reset();
  EXPECT_EQ(fake.count("contexts"), 0);
  EXPECT_NE(open_fake(), nullptr);
}

TEST_F(ContextTest, OthersThanItsModulesAreRefused) {
  const auto context = open_fake();
  expect_error(error_of([] { cuda::open_device(0, {}, AUTOGLM_FAKE_CUDA); }), ErrorCode::internal, "modules");
}

TEST_F(ContextTest, LeavesTheThreadsOwnContextCurrent) {
  fake.set("num_devices", 2);
  const auto mine = open_fake(0);
  const auto other = open_fake(1);
  cuda::CUcontext found = nullptr;
  mine->driver().cuCtxGetCurrent.call(&found);
  EXPECT_EQ(found, nullptr);
  cuda::CUcontext handle = nullptr;
  mine->driver().cuDevicePrimaryCtxRetain.call(&handle, 1);
  mine->driver().cuCtxPushCurrent_v2.call(handle);
  EXPECT_EQ(mine->memory().free_bytes, mine->memory().total_bytes);
  mine->driver().cuCtxGetCurrent.call(&found);
  EXPECT_EQ(found, handle);
  {
    const cuda::Context::Current current(*mine);
    mine->driver().cuCtxGetCurrent.call(&found);
    EXPECT_NE(found, handle);
    cuda::DeviceMemory(mine, 10);
  }
  mine->driver().cuCtxPopCurrent_v2.call(&found);
  EXPECT_EQ(found, handle);
  mine->driver().cuDevicePrimaryCtxRelease_v2.call(1);
}

TEST_F(ContextTest, WorksOnAnyThreadAndIsFreedOnAnyThread) {
  auto context = open_fake();
  auto memory = std::make_unique<cuda::DeviceMemory>(context, 100);
  context.reset();
  std::thread([&] { memory.reset(); }).join();
  EXPECT_EQ(fake.count("objects"), 0);
}

TEST_F(ContextTest, HundredCyclesLeaveNothingBehind) {
  for (int cycle = 0; cycle < 100; ++cycle) {
    const auto context = open_fake();
    cuda::Stream stream(context);
    cuda::Event event(context);
    cuda::Uploader uploader(stream, 100);
    const DeviceFloats in(stream, std::vector<float>(8, 2.0f));
    const cuda::PinnedMemory pinned(context, 32);
    const cuda::ProbeArgs args{in.data(), in.data(), 8, 3};
    const cuda::Graph graph = cuda::capture(stream, [&] { launch(stream, cuda::kScaleProbe, args); });
    cuda::GraphExec exec(graph);
    exec.launch(stream);
    stream.record(event);
    event.synchronize();
    ASSERT_EQ(in.read(stream), std::vector<float>(8, 6.0f));
  }
  EXPECT_EQ(fake.count("objects"), 0);
  EXPECT_EQ(fake.count("allocated_bytes"), 0);
  EXPECT_EQ(fake.count("pinned_bytes"), 0);
}

// Goal: a fatal error is told by each later call, with the text of the first, and destructors stay quiet.
TEST_F(ContextTest, AfterAFatalErrorEachCallFailsWithTheFirstErrorsText) {
  fake.set("launch_failure_at", 2);
  fake.set("launch_failure_code", cuda::CUDA_ERROR_ILLEGAL_ADDRESS);
  auto context = open_fake();
  {
    cuda::Stream stream(context);
    cuda::Event event(context);
    cuda::PinnedMemory pinned(context, 64);
    const DeviceFloats in(stream, {1, 2, 3});
    const cuda::ProbeArgs args{in.data(), in.data(), 3, 2};
    launch(stream, cuda::kScaleProbe, args);
    launch(stream, cuda::kScaleProbe, args);
    EXPECT_FALSE(context->is_lost()) << "a kernel fails when it runs, not when it is launched";
    const std::string first = "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700)";
    expect_error(error_of([&] { stream.synchronize(); }), ErrorCode::device_lost, first);
    EXPECT_TRUE(context->is_lost());
    EXPECT_NE(context->loss().find("GPU 0 (Emulated GPU)"), std::string::npos) << context->loss();
    const auto expect_lost = [&](auto&& body) {
      expect_error(error_of(body), ErrorCode::device_lost, first);
    };
    expect_lost([&] { launch(stream, cuda::kScaleProbe, args); });
    expect_lost([&] { in.read(stream); });
    expect_lost([&] { stream.record(event); });
    expect_lost([&] { event.synchronize(); });
    expect_lost([&] { (void)event.is_reached(); });
    expect_lost([&] { cuda::DeviceMemory(context, 16); });
    expect_lost([&] { cuda::PinnedMemory(context, 16); });
    expect_lost([&] { (void)cuda::Stream(context); });
    expect_lost([&] { context->memory(); });
    expect_lost([&] { cuda::capture(stream, [] {}); });
    expect_lost([] { open_fake(); });
  }
  context.reset();
  EXPECT_EQ(fake.count("refused"), 0) << "neither calls nor destructors reach the driver";
  EXPECT_EQ(fake.count("objects"), 0) << "the end of the context frees what its objects no more could";

  const auto again = open_fake();
  cuda::Stream stream(again);
  EXPECT_EQ(DeviceFloats(stream, {5}).read(stream), std::vector<float>{5});
}

// Method: each function that a small job calls fails in turn, first with an ordinary code and then with a
// fatal one.
TEST_F(ContextTest, EveryFailingCallIsAnErrorThatNamesItAndLeaksNothing) {
  const auto job = [] {
    const auto context = open_fake();
    cuda::Stream stream(context);
    cuda::Stream other(context);
    cuda::Event event(context);
    cuda::PinnedMemory pinned(context, 12);
    const DeviceFloats in(stream, {1, 2, 3});
    const cuda::ProbeArgs args{in.data(), in.data(), 3, 2};
    stream.fill(in.data(), 0, 12);
    stream.copy_on_device(in.data(), in.data(), 12);
    launch(stream, cuda::kScaleProbe, args);
    launch(stream, cuda::kDynamicProbe, args);
    const cuda::Graph graph = cuda::capture(stream, [&] { launch(stream, cuda::kScaleProbe, args); });
    cuda::GraphExec exec(graph);
    exec.launch(stream);
    stream.copy_to_host(pinned.data(), in.data(), 12);
    stream.record(event);
    other.wait_for(event);
    while (!event.is_reached()) continue;
    while (!stream.is_idle()) continue;
    event.synchronize();
    stream.synchronize();
    context->memory();
  };
  ASSERT_NO_THROW(job());
  const char* functions[] = {"cuModuleLoadDataEx",
                             "cuModuleGetFunction",
                             "cuFuncSetAttribute",
                             "cuFuncGetParamInfo",
                             "cuLaunchKernel",
                             "cuMemGetInfo_v2",
                             "cuMemAlloc_v2",
                             "cuMemHostAlloc",
                             "cuMemcpyHtoDAsync_v2",
                             "cuMemcpyDtoHAsync_v2",
                             "cuMemcpyDtoDAsync_v2",
                             "cuMemsetD8Async",
                             "cuStreamCreate",
                             "cuStreamSynchronize",
                             "cuStreamQuery",
                             "cuStreamWaitEvent",
                             "cuStreamBeginCapture_v2",
                             "cuStreamEndCapture",
                             "cuEventCreate",
                             "cuEventRecord",
                             "cuEventQuery",
                             "cuEventSynchronize",
                             "cuGraphInstantiateWithFlags",
                             "cuGraphLaunch",
                             "cuDevicePrimaryCtxRetain"};
  for (const char* function : functions) {
    SCOPED_TRACE(function);
    fake.fail(function, 1, cuda::CUDA_ERROR_INVALID_VALUE);
    expect_error(error_of(job), ErrorCode::internal,
                 std::string(function) + ": CUDA_ERROR_INVALID_VALUE (1), invalid argument");
    EXPECT_EQ(fake.count("objects"), 0);
    fake.fail(function, 1, cuda::CUDA_ERROR_ECC_UNCORRECTABLE);
    expect_error(error_of(job), ErrorCode::device_lost,
                 std::string(function) + ": CUDA_ERROR_ECC_UNCORRECTABLE (214)");
    EXPECT_EQ(fake.count("objects"), 0);
  }
}

// Destructors: what cannot be given back is the driver's loss, and never an exception.
TEST_F(ContextTest, AFailingReleaseIsNoException) {
  for (const char* function : {"cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2", "cuEventDestroy_v2",
                               "cuGraphDestroy", "cuGraphExecDestroy", "cuModuleUnload"}) {
    for (const cuda::CUresult code : {cuda::CUDA_ERROR_INVALID_VALUE, cuda::CUDA_ERROR_ILLEGAL_ADDRESS}) {
      const auto context = open_fake();
      cuda::Stream stream(context);
      const cuda::Event event(context);
      const cuda::PinnedMemory pinned(context, 12);
      const DeviceFloats in(stream, {1});
      launch(stream, cuda::kScaleProbe, cuda::ProbeArgs{in.data(), in.data(), 1, 2});
      const cuda::Graph graph = cuda::capture(stream, [] {});
      const cuda::GraphExec exec(graph);
      fake.fail(function, 1, code);
    }
    EXPECT_EQ(fake.count("objects"), 0) << function;
  }
}

}  // namespace
}  // namespace autoglm::test
