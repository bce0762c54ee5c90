#include "model/packed_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

constexpr int64_t kOffset = 65536;
constexpr int64_t kSectionBytes = 300'000;  // more than a piece, and no multiple of one
constexpr int64_t kNumBytes = 1'000'000;

class PackedFileTest : public ::testing::Test {
 protected:
  PackedFileTest()
      : path_(std::filesystem::temp_directory_path() / ("autoglm-packed-" + std::to_string(getpid()))) {
    std::ofstream(path_).close();
    const std::vector<uint8_t> random = Random(5).bytes(kNumBytes);
    bytes_.resize(random.size());
    std::memcpy(bytes_.data(), random.data(), random.size());
    control_.check = [] {};
    file_ = {.path = path_,
             .offset = kOffset,
             .num_bytes = kNumBytes,
             .section_bytes = kSectionBytes,
             .checksums = write_packed_file(path_, kOffset, kSectionBytes, bytes_, [] {})};
  }
  ~PackedFileTest() override { std::filesystem::remove(path_); }

  MemoryRegion read() { return read_packed_file(file_, pool_, control_); }

  void expect_refusal(ErrorCode code, const std::string& words) {
    try {
      (void)read();
      ADD_FAILURE() << "expected: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, code) << error.what();
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }

  void flip_bit(int64_t at) {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const auto value = static_cast<char>(file.get() ^ 0x10);
    file.seekp(at);
    file.put(value);
  }

  std::string path_;
  std::vector<std::byte> bytes_;
  ThreadPool pool_{2};
  LoadControl control_;
  PackedFile file_;
};

TEST_F(PackedFileTest, GivesBackWhatWasWrittenCopiedOrShared) {
  ASSERT_EQ(file_.checksums.size(), 4U);
  for (const bool is_shared : {false, true}) {
    file_.is_shared = is_shared;
    const MemoryRegion region = read();
    ASSERT_EQ(region.size(), kNumBytes);
    EXPECT_EQ(std::memcmp(region.data(), bytes_.data(), kNumBytes), 0);
  }
  EXPECT_EQ(control_.loaded_bytes.load(), 2 * kNumBytes);
}

TEST_F(PackedFileTest, RefusesAFlippedBitInAnySectionAndNamesIt) {
  for (const bool is_shared : {false, true}) {
    file_.is_shared = is_shared;
    for (const int64_t at : {int64_t{0}, kSectionBytes - 1, kSectionBytes, kNumBytes - 1}) {
      flip_bit(kOffset + at);
      expect_refusal(ErrorCode::invalid_model_file,
                     "section " + std::to_string(at / kSectionBytes) + " does not match");
      flip_bit(kOffset + at);
    }
  }
  EXPECT_NO_THROW((void)read());
}

TEST_F(PackedFileTest, RefusesAnotherLength) {
  std::filesystem::resize_file(path_, kOffset + kNumBytes - 1);
  expect_refusal(ErrorCode::invalid_model_file, "has 1065535 bytes, expected 1065536");
  std::filesystem::resize_file(path_, kOffset + kNumBytes + 1);
  expect_refusal(ErrorCode::invalid_model_file, "has 1065537 bytes");
  std::filesystem::remove(path_);
  expect_refusal(ErrorCode::invalid_model_file, "cannot be opened");
}

TEST_F(PackedFileTest, RefusesChecksumsThatDoNotFitTheSections) {
  file_.checksums.pop_back();
  expect_refusal(ErrorCode::invalid_parameter, "a checksum for each section");
}

TEST_F(PackedFileTest, StopsBetweenSections) {
  int num_calls = 0;
  const auto stop_at_second = [&] {
    if (++num_calls == 2) throw Error(ErrorCode::aborted, "stop");
  };
  EXPECT_THROW((void)write_packed_file(path_, kOffset, kSectionBytes, bytes_, stop_at_second), Error);
  EXPECT_EQ(num_calls, 2);
}

TEST(WritePackedFile, SaysWhatTheDeviceRefuses) {
  const std::vector<std::byte> bytes(100);
  try {
    (void)write_packed_file("/dev/full", 0, 64, bytes, [] {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::invalid_model_file);
    EXPECT_NE(std::string(error.what()).find("/dev/full cannot be written at byte 0"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace autoglm::test
