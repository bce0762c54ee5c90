// What the compiler made of the kernels: properties that no output shows.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
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

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

bool is_plain_release_build() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__) || \
    !defined(__x86_64__)
  return false;
#else
  return true;
#endif
}

// Goal: code compiled for one instruction set does not leak into the rest of the program. A weak function in
// such an object file could be the copy that the linker keeps for everyone. Method: lines of nm are
// "...kernels_avx2.cpp.o:0000000000000000 t symbol".
TEST(MachineCode, OfOneInstructionSetStaysInItsFile) {
  if (!is_plain_release_build()) GTEST_SKIP() << "only optimised x86-64 builds without sanitizers";
  int num_entries = 0;
  for (const std::string& line :
       lines_of(std::string(AUTOGLM_NM) + " -A -C --defined-only " + AUTOGLM_ENGINE_LIBRARY)) {
    if (!contains(line, "_avx2.cpp") && !contains(line, "_avx512.cpp")) continue;
    const size_t type = line.find(' ', line.rfind(':', line.find(".o:") + 3));
    ASSERT_NE(type, std::string::npos) << line;
    const char kind = line[type + 1];
    const bool is_table = contains(line, " autoglm::cpu::kernels_avx");
    if (is_table) ++num_entries;
    EXPECT_TRUE(kind != 'W' && kind != 'V' && (kind != 'T' || is_table)) << line;
  }
  EXPECT_EQ(num_entries, 2);
}

struct Instruction {
  uint64_t address;
  std::string text;
};

// Innermost loops of one function: from a backward jump's target to the jump, without another such jump
// inside.
std::vector<std::vector<std::string>> inner_loops(const std::vector<Instruction>& code) {
  std::vector<std::vector<std::string>> loops;
  uint64_t last_jump = 0;
  for (const Instruction& each : code) {
    if (each.text[0] != 'j') continue;
    const size_t operand = each.text.find_first_of("0123456789abcdef", each.text.find(' '));
    if (operand == std::string::npos) continue;
    const uint64_t target = std::strtoull(each.text.c_str() + operand, nullptr, 16);
    if (target >= each.address || target == 0) continue;
    if (last_jump < target) {
      std::vector<std::string>& loop = loops.emplace_back();
      for (const Instruction& inside : code) {
        if (inside.address >= target && inside.address <= each.address) loop.push_back(inside.text);
      }
    }
    last_jump = each.address;
  }
  return loops;
}

// Goal: no loop of products or of int8 attention moves its sums through the stack. GCC 12 does that to arrays
// that `vpdpbusd` or `vpdpwssd` updates as soon as registers run short, and loses half of the speed.
TEST(MachineCode, ProductLoopsKeepTheirSumsInRegisters) {
  if (!is_plain_release_build()) GTEST_SKIP() << "only optimised x86-64 builds without sanitizers";
  std::vector<Instruction> code;
  std::string name;
  int num_loops = 0, num_attention_loops = 0;
  const auto check_function = [&] {
    for (const std::vector<std::string>& loop : inner_loops(code)) {
      int num_products = 0, num_pair_products = 0, num_spills = 0;
      for (const std::string& text : loop) {
        num_products += contains(text, "vpdpbusd") ? 1 : 0;
        num_pair_products += contains(text, "vpdpwssd") ? 1 : 0;
        num_spills += contains(text, "zmm") && contains(text, "(%rsp)") ? 1 : 0;
      }
      if (num_products < 8 && num_pair_products < 8) continue;
      ++(num_products > 0 ? num_loops : num_attention_loops);
      EXPECT_EQ(num_spills, 0) << name;
    }
    code.clear();
  };
  const std::string command =
      std::string(AUTOGLM_OBJDUMP) + " -d -C --no-show-raw-insn " + AUTOGLM_ENGINE_LIBRARY;
  bool is_wanted_file = false;
  for (const std::string& line : lines_of(command)) {
    if (contains(line, "file format")) {
      is_wanted_file = contains(line, "_avx512.cpp");
    } else if (is_wanted_file && contains(line, ">:")) {
      check_function();
      name = line;
    } else if (is_wanted_file && contains(line, ":\t")) {
      code.push_back({std::strtoull(line.c_str(), nullptr, 16), line.substr(line.find(":\t") + 2)});
    }
  }
  check_function();
  EXPECT_GE(num_loops, 40) << "a loop per layout and number of rows";
  EXPECT_GE(num_attention_loops, 4) << "scores and values of three and four query rows";
}

}  // namespace
}  // namespace autoglm::test
