#include "base/hash64.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

namespace autoglm::test {
namespace {

std::vector<std::byte> pattern(size_t num_bytes) {
  std::vector<std::byte> bytes(num_bytes);
  for (size_t i = 0; i < num_bytes; ++i) bytes[i] = static_cast<std::byte>(7 * i + 3);
  return bytes;
}

// The file is made by test/fixtures/make_hashes.py with the xxhash package.
TEST(Hash64, IsWhatTheXxhashPackageComputesHoweverTheBytesAreCut) {
  std::ifstream file(AUTOGLM_FIXTURES "/hashes.txt");
  int num_lines = 0;
  size_t length = 0;
  for (std::string expected; file >> length >> expected; ++num_lines) {
    const std::vector<std::byte> bytes = pattern(length);
    Hash64 whole;
    whole.add(bytes);
    ASSERT_EQ(whole.value(), std::stoull(expected, nullptr, 16)) << length << " bytes";
    for (const size_t piece : {32, 64, 4096}) {
      Hash64 cut;
      for (size_t at = 0; at < length; at += piece)
        cut.add(std::span(bytes).subspan(at, std::min(piece, length - at)));
      EXPECT_EQ(cut.value(), whole.value()) << length << " bytes in pieces of " << piece;
    }
  }
  EXPECT_EQ(num_lines, 49);
}

}  // namespace
}  // namespace autoglm::test
