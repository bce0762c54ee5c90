#include "cuda/driver/memory.h"

#include "cuda/driver/uploader.h"
#include "driver_fixture.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

using DeviceMemoryTest = FakeCudaTest;
using UploaderTest = FakeCudaTest;

TEST_F(DeviceMemoryTest, SaysWhatWasAskedForAndWhatWasFree) {
  fake.set("total_memory", 1000);
  const auto context = open_fake();
  const cuda::DeviceMemory held(context, 600);
  EXPECT_EQ(context->memory().free_bytes, 400u);
  expect_error(
      error_of([&] { cuda::DeviceMemory(context, 401); }), ErrorCode::out_of_memory,
      "CUDA_ERROR_OUT_OF_MEMORY (2), out of memory: 401 bytes of device memory, 400 of 1000 are free");
  EXPECT_FALSE(context->is_lost());
  EXPECT_EQ(cuda::DeviceMemory(context, 400).size(), 400u) << "usable afterwards";
}

TEST_F(DeviceMemoryTest, EveryAllocationOfASeriesMayFailAndNothingIsLeft) {
  const auto context = open_fake();
  for (int nth = 1; nth <= 4; ++nth) {
    fake.fail("cuMemAlloc_v2", nth, cuda::CUDA_ERROR_OUT_OF_MEMORY);
    std::vector<cuda::DeviceMemory> pieces;
    const Error error = error_of([&] {
      for (int i = 0; i < 4; ++i) pieces.emplace_back(context, 100);
    });
    EXPECT_EQ(error.code, ErrorCode::out_of_memory);
    EXPECT_EQ(pieces.size(), static_cast<size_t>(nth - 1));
    pieces.clear();
    EXPECT_EQ(fake.count("allocated_bytes"), 0);
  }
  fake.fail("cuMemHostAlloc", 1, cuda::CUDA_ERROR_OUT_OF_MEMORY);
  expect_error(error_of([&] { cuda::PinnedMemory(context, 77); }), ErrorCode::out_of_memory,
               "77 bytes of page-locked host memory");
}

TEST_F(DeviceMemoryTest, MovesOnce) {
  const auto context = open_fake();
  cuda::DeviceMemory first(context, 10);
  std::byte* address = first.data();
  cuda::DeviceMemory second(std::move(first));
  EXPECT_EQ(second.data(), address);
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(first.size(), 0u);
  second = cuda::DeviceMemory(context, 20);
  EXPECT_EQ(fake.count("allocated_bytes"), 20);
  EXPECT_EQ(cuda::DeviceMemory(context, 0).data(), nullptr);
  EXPECT_EQ(cuda::PinnedMemory(context, 0).data(), nullptr);
}

TEST_F(DeviceMemoryTest, AnArenaGivesAlignedPiecesUntilItIsFull) {
  const auto context = open_fake();
  cuda::Arena arena(context, cuda::Arena::padded(1) + cuda::Arena::padded(256) + cuda::Arena::padded(300));
  EXPECT_EQ(arena.size(), 1024u);
  std::byte* first = arena.take(1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % cuda::Arena::kAlignment, 0u);
  EXPECT_EQ(arena.take<float>(64), reinterpret_cast<float*>(first + 256));
  EXPECT_EQ(arena.take(0), first + 512);
  EXPECT_EQ(arena.take(300), first + 512);
  EXPECT_EQ(arena.num_left(), 0u);
  expect_error(error_of([&] { arena.take(1); }), ErrorCode::internal, "1024 bytes has 0 left, 1 asked for");
  const cuda::Arena moved = std::move(arena);
  EXPECT_EQ(arena.num_left(), 0u);
  EXPECT_EQ(moved.size(), 1024u);
}

std::vector<std::byte> random_bytes(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes;
  for (int64_t i = 0; i < count; ++i) bytes.push_back(static_cast<std::byte>(random.below(256)));
  return bytes;
}

TEST_F(UploaderTest, BringsEveryByteWhateverTheSize) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  cuda::Uploader uploader(stream, 1000);
  for (const int64_t size : {0, 1, 999, 1000, 1001, 2000, 2001, 3000, 12'345}) {
    const std::vector<std::byte> source = random_bytes(size, 10 + static_cast<uint64_t>(size));
    const cuda::DeviceMemory target(context, source.size());
    std::vector<size_t> steps;
    uploader.upload(target.data(), source, [&](size_t num_done) { steps.push_back(num_done); });
    std::vector<std::byte> found(source.size());
    stream.copy_to_host(found.data(), target.data(), found.size());
    EXPECT_EQ(found, source) << size;
    EXPECT_EQ(steps.size(), (source.size() + 999) / 1000);
    for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], 1000 * i);
  }
}

TEST_F(UploaderTest, KeepsTheOrderOfManySmallUploadsAndOfKernelsBehindThem) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  cuda::Uploader uploader(stream, 16);
  const DeviceFloats floats(stream, std::vector<float>(24, 0.0f));
  for (int i = 0; i < 6; ++i) {
    const std::vector<float> part(4, static_cast<float>(i));
    uploader.upload(floats.data() + 4 * i, std::as_bytes(std::span(part)));
  }
  launch(stream, cuda::kScaleProbe, cuda::ProbeArgs{floats.data(), floats.data(), 24, 2});
  uploader.finish();
  const std::vector<float> found = floats.read(stream);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], 2 * static_cast<float>(i / 4));
}

TEST_F(UploaderTest, FillsPiecesInPlace) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  cuda::Uploader uploader(stream, 100);
  const cuda::DeviceMemory target(context, 250);
  uploader.upload(target.data(), 250, [](std::span<std::byte> piece, size_t offset) {
    for (size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<std::byte>((offset + i) % 251);
  });
  std::vector<std::byte> found(250);
  stream.copy_to_host(found.data(), target.data(), 250);
  for (size_t i = 0; i < 250; ++i) ASSERT_EQ(found[i], static_cast<std::byte>(i)) << i;
}

TEST_F(UploaderTest, IsCancelledByItsCallbackAndUsableAgain) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  cuda::Uploader uploader(stream, 10);
  const std::vector<std::byte> source = random_bytes(35, 3);
  const cuda::DeviceMemory target(context, 35);
  expect_error(error_of([&] {
                 uploader.upload(target.data(), source, [](size_t num_done) {
                   if (num_done == 20) throw Error(ErrorCode::aborted, "enough");
                 });
               }),
               ErrorCode::aborted, "enough");
  uploader.upload(target.data(), source);
  std::vector<std::byte> found(35);
  stream.copy_to_host(found.data(), target.data(), 35);
  EXPECT_EQ(found, source);
}

// The destructor waits: a buffer that goes before its copy has run is a fault of the fake driver.
TEST_F(UploaderTest, MayGoWhileItsCopiesAreUnderWay) {
  const auto context = open_fake();
  cuda::Stream stream(context);
  const std::vector<std::byte> source = random_bytes(64, 4);
  const cuda::DeviceMemory target(context, 64);
  {
    cuda::Uploader(stream, 32).upload(target.data(), source);
  }
  std::vector<std::byte> found(64);
  stream.copy_to_host(found.data(), target.data(), 64);
  EXPECT_EQ(found, source);
}

}  // namespace
}  // namespace autoglm::test
