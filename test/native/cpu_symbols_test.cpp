// Code compiled for one instruction set must not leak into the rest of the program: a weak function in such
// an object file could be the copy that the linker keeps for everyone.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace autoglm::test {
namespace {

struct Close {
  void operator()(FILE* pipe) const { pclose(pipe); }
};

std::vector<std::string> lines_of(const std::string& command) {
  const std::unique_ptr<FILE, Close> pipe(popen(command.c_str(), "r"));
  std::vector<std::string> lines;
  std::array<char, 4096> line;
  while (pipe != nullptr && std::fgets(line.data(), line.size(), pipe.get()) != nullptr)
    lines.emplace_back(line.data());
  return lines;
}

// Lines are "kernels_avx2.cpp.o:0000000000000000 t symbol".
TEST(Symbols, OfOneInstructionSetStayInTheirFile) {
  if (std::string(AUTOGLM_NM).empty()) GTEST_SKIP() << "no nm on this machine";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers add symbols of their own";
#endif
  int num_entries = 0;
  for (const std::string& line :
       lines_of(std::string(AUTOGLM_NM) + " -A -C --defined-only " + AUTOGLM_ENGINE_LIBRARY)) {
    if (line.find("_avx2.cpp") == std::string::npos && line.find("_avx512.cpp") == std::string::npos)
      continue;
    const size_t type = line.find(' ', line.rfind(':', line.find(".o:") + 3));
    ASSERT_NE(type, std::string::npos) << line;
    const char kind = line[type + 1];
    const bool is_table = line.find(" autoglm::cpu::kernels_avx") != std::string::npos;
    if (is_table) ++num_entries;
    EXPECT_TRUE(kind != 'W' && kind != 'V' && (kind != 'T' || is_table)) << line;
  }
#if defined(__x86_64__)
  EXPECT_EQ(num_entries, 2);
#endif
}

}  // namespace
}  // namespace autoglm::test
