// Several devices: copies from one to another, events across them, and what belongs to which.
#include <gtest/gtest.h>

#include "driver_fixture.h"

namespace autoglm::test {
namespace {

class PeerTest : public FakeCudaTest {
 protected:
  void SetUp() override {
    FakeCudaTest::SetUp();
    fake.set("num_devices", 2);
  }
};

// Two devices with a stream each; `near` has the way to `far` where there is one.
struct TwoDevices {
  std::shared_ptr<cuda::Context> near_context = open_fake(0);
  std::shared_ptr<cuda::Context> far_context = open_fake(1);
  cuda::Stream near_stream{near_context};
  cuda::Stream far_stream{far_context};
};

TEST_F(PeerTest, ACopyIsThereBehindTheSendersEvent) {
  TwoDevices two;
  ASSERT_TRUE(two.near_context->open_way_to(*two.far_context));
  EXPECT_TRUE(two.near_context->open_way_to(*two.far_context)) << "another one has opened it";
  const DeviceFloats source(two.near_stream, {1, 2, 3});
  const DeviceFloats target(two.far_stream, {0, 0, 0});
  two.far_stream.synchronize();
  cuda::Event has_left(two.near_context);
  two.near_stream.copy_to_peer(*two.far_context, target.data() + 1, source.data(), 8);
  two.near_stream.record(has_left);
  EXPECT_EQ(target.read(two.far_stream), (std::vector<float>{0, 0, 0})) << "nothing orders two streams";
  two.far_stream.wait_for(has_left);
  EXPECT_EQ(target.read(two.far_stream), (std::vector<float>{0, 1, 2}));
  EXPECT_EQ(fake.count("peer_copies"), 1);
}

TEST_F(PeerTest, DevicesThatDoNotReachEachOtherSaySo) {
  constexpr int kTooManyPeers = 711;
  constexpr int kLaunchFailed = 719;
  fake.set("peers", 0);
  TwoDevices two;
  EXPECT_FALSE(two.near_context->open_way_to(*two.far_context));
  fake.set("peers", 1);
  fake.fail("cuCtxEnablePeerAccess", 1, kTooManyPeers);
  EXPECT_FALSE(two.near_context->open_way_to(*two.far_context));
  fake.fail("cuCtxEnablePeerAccess", 1, kLaunchFailed);
  expect_error(error_of([&] { static_cast<void>(two.near_context->open_way_to(*two.far_context)); }),
               ErrorCode::device_lost, "on GPU 0");
}

TEST_F(PeerTest, MemoryOfOneDeviceIsNoneOfTheOther) {
  const auto expect_loss = [](const auto& body, const std::string& part) {
    TwoDevices two;
    const DeviceFloats near(two.near_stream, {1});
    const DeviceFloats far(two.far_stream, {1});
    expect_error(error_of([&] { body(two, near.data(), far.data()); }), ErrorCode::device_lost, part);
    EXPECT_TRUE(two.near_context->is_lost());
    EXPECT_EQ(far.read(two.far_stream), std::vector<float>{1}) << "the other device lives on";
  };
  expect_loss(
      [](TwoDevices& two, float* near, float* far) {
        const cuda::ProbeArgs args{.out = near, .in = far, .count = 1};
        cuda::launch(two.near_stream, cuda::kScaleProbe, args);
        two.near_stream.synchronize();
      },
      "has an address of device 1");
  expect_loss(
      [](TwoDevices& two, float* near, float* far) {
        two.near_stream.copy_on_device(near, far, 4);
        two.near_stream.synchronize();
      },
      "not within an allocation of this device but of device 1");
  expect_loss(
      [](TwoDevices& two, float*, float* far) {
        const float seven = 7;
        two.near_stream.copy_to_device(far, &seven, 4);
        two.near_stream.synchronize();
      },
      "of device 1");
}

// What the stream of a lost device was waited for counts as done, and its own context tells of it.
TEST_F(PeerTest, AFaultSpoilsTheContextOfItsOwnStream) {
  TwoDevices two;
  const DeviceFloats near(two.near_stream, {1});
  cuda::Event is_done(two.near_context);
  const cuda::ProbeArgs args{.out = near.data(), .in = near.data(), .count = 1};
  fake.set("failing_device", 0);
  fake.set("launch_failure_at", 1);
  cuda::launch(two.near_stream, cuda::kScaleProbe, args);
  two.near_stream.record(is_done);
  two.far_stream.wait_for(is_done);
  two.far_stream.synchronize();
  EXPECT_FALSE(two.far_context->is_lost());
  expect_error(error_of([&] { is_done.synchronize(); }), ErrorCode::device_lost, "on GPU 0");
}

TEST_F(PeerTest, TheLatestStreamMayGoFirst) {
  fake.set("last_stream_first", 1);
  TwoDevices two;
  ASSERT_TRUE(two.near_context->open_way_to(*two.far_context));
  const DeviceFloats source(two.near_stream, {1});
  const DeviceFloats target(two.far_stream, {0});
  const DeviceFloats copy(two.far_stream, {0});
  two.near_stream.copy_to_peer(*two.far_context, target.data(), source.data(), 4);
  two.far_stream.copy_on_device(copy.data(), target.data(), 4);
  two.near_stream.synchronize();
  EXPECT_EQ(copy.read(two.far_stream), std::vector<float>{0}) << "no event orders the two";
}

TEST_F(PeerTest, EachDeviceHasMemoryOfItsOwn) {
  fake.set("total_memory@1", 1 << 20);
  TwoDevices two;
  const cuda::DeviceMemory near(two.near_context, 2 << 20);
  EXPECT_EQ(two.far_context->memory().free_bytes, size_t{1} << 20);
  EXPECT_EQ(fake.count("allocated_bytes@0"), 2 << 20);
  EXPECT_EQ(fake.count("allocated_bytes@1"), 0);
  expect_error(error_of([&] { cuda::DeviceMemory(two.far_context, 2 << 20); }), ErrorCode::out_of_memory,
               "1048576 of 1048576 are free, on GPU 1");
}

}  // namespace
}  // namespace autoglm::test
