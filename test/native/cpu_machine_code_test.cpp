// What the compiler made of the kernels: properties that no output shows.
#include <gtest/gtest.h>

#include <algorithm>
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
    !defined(__GNUC__)
  return false;
#else
  return true;
#endif
}

// Goal: code compiled for one instruction set does not leak into the rest of the program. A weak function in
// such an object file could be the copy that the linker keeps for everyone. Method: lines of nm are
// "...kernels_avx2.cpp.o:0000000000000000 t symbol".
TEST(MachineCode, OfOneInstructionSetStaysInItsFile) {
  if (!is_plain_release_build()) GTEST_SKIP() << "only optimised builds without sanitizers";
  int num_entries = 0;
  for (const std::string& line :
       lines_of(std::string(AUTOGLM_NM) + " -A -C --defined-only " + AUTOGLM_ENGINE_LIBRARY)) {
    if (!contains(line, ".a:kernels_") || contains(line, ".a:kernels_plain.cpp")) continue;
    if (contains(line, " DW.ref.")) continue;  // a pointer that exceptions need, no code
    const size_t type = line.find(' ', line.rfind(':', line.find(".o:") + 3));
    ASSERT_NE(type, std::string::npos) << line;
    const char kind = line[type + 1];
    const bool is_table = contains(line, " autoglm::cpu::kernels_") && line.back() == '\n' && kind == 'T';
    if (is_table) ++num_entries;
    EXPECT_TRUE(kind != 'W' && kind != 'V' && (kind != 'T' || is_table)) << line;
  }
#if defined(__aarch64__)
  EXPECT_EQ(num_entries, 2);
#else
  EXPECT_EQ(num_entries, 4);
#endif
}

struct Instruction {
  uint64_t address;
  std::string text;
};

// The target of a jump: the last hexadecimal number before the name of the place, in the syntax of either
// processor ("jne 1f0 <f>", "b.ne 1f0 <f>", "cbnz x3, 1f0 <f>"). 0 for anything else.
uint64_t jump_target(const std::string& text) {
  constexpr std::array<const char*, 5> kJumps = {"j", "b.", "b\t", "cb", "tb"};
  const bool is_jump =
      std::any_of(kJumps.begin(), kJumps.end(), [&](const char* start) { return text.rfind(start, 0) == 0; });
  const size_t place = text.find(" <");
  if (!is_jump || place == std::string::npos) return 0;
  const size_t before = text.find_last_of(" \t", place - 1);
  return std::strtoull(text.c_str() + before + 1, nullptr, 16);
}

// Innermost loops of one function: from a backward jump's target to the jump, without another such jump
// inside.
std::vector<std::vector<std::string>> inner_loops(const std::vector<Instruction>& code) {
  std::vector<std::vector<std::string>> loops;
  uint64_t last_jump = 0;
  for (const Instruction& each : code) {
    const uint64_t target = jump_target(each.text);
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

struct Function {
  std::string file;
  std::string name;
  std::vector<Instruction> code;
};

// The functions of all kernels but the plain ones.
std::vector<Function> kernel_functions() {
  std::vector<Function> functions;
  std::string file;
  const std::string command =
      std::string(AUTOGLM_OBJDUMP) + " -d -C --no-show-raw-insn " + AUTOGLM_ENGINE_LIBRARY;
  for (const std::string& line : lines_of(command)) {
    if (contains(line, "file format")) {
      file = line.rfind("kernels_", 0) == 0 ? line.substr(0, line.find('.')) : "";
    } else if (file.empty() || file == "kernels_plain") {
      continue;
    } else if (contains(line, ">:")) {
      functions.push_back({file, line, {}});
    } else if (contains(line, ":\t") && !functions.empty()) {
      functions.back().code.push_back(
          {std::strtoull(line.c_str(), nullptr, 16), line.substr(line.find(":\t") + 2)});
    }
  }
  return functions;
}

int count_instructions(const std::vector<std::string>& loop, const char* name) {
  return static_cast<int>(
      std::count_if(loop.begin(), loop.end(), [&](const std::string& text) { return contains(text, name); }));
}

// Moves of vectors to and from the stack, and operations with an operand there.
int count_stack_moves(const std::vector<std::string>& loop) {
  return static_cast<int>(std::count_if(loop.begin(), loop.end(), [](const std::string& text) {
#if defined(__aarch64__)
    const size_t name_end = text.find('\t');
    return name_end != std::string::npos && (text[name_end + 1] == 'q' || text[name_end + 1] == 'v') &&
           (contains(text, "[sp,") || contains(text, "[sp]"));
#else
    return (contains(text, "%zmm") || contains(text, "%ymm")) && contains(text, "(%rsp)");
#endif
  }));
}

// The loops with eight or more of one instruction in some functions, and how many stack moves they may have.
struct HotLoops {
  const char* file;
  const char* function;  // part of the name
  const char* product;
  int num_loops;             // at least
  double moves_per_product;  // 0 but where the reason is given
};

constexpr HotLoops kHotLoops[] = {
#if defined(__aarch64__)
    {"kernels_neon", "int8_panel", "sdot", 50, 0},
    {"kernels_neon", "multiply", "fmla", 5, 0},
    {"kernels_neon", "Pages", "fmla", 8, 0},
    {"kernels_neon", "Int8Pages", "smull", 4, 0},
    {"kernels_neon_i8mm", "int8_panel", "smmla", 40, 0},
#else
    // Sixteen registers hold the integer sums of a tile and what they are made of. The float sums lie on the
    // stack, two moves each per group of 32, and so do some weights of tiles with many rows.
    {"kernels_avx2", "int8_panel", "vpmaddubsw", 40, 1.25},
    {"kernels_avx_vnni", "int8_panel", "vpdpbusd", 40, 1.25},
    {"kernels_avx2", "multiply", "vfmadd", 4, 0},
    {"kernels_avx2", "FloatPages", "vfmadd", 8, 0},
    // Latents are multiplied a vector of dims at a time, so that every row has vectors of its own.
    {"kernels_avx2", "LatentPages", "vfmadd", 8, 1.25},
    {"kernels_avx2", "Int8Pages", "vpmaddwd", 4, 0},
    {"kernels_avx512", "int8_panel", "vpdpbusd", 40, 0},
    {"kernels_avx512", "multiply", "vfmadd", 5, 0},
    {"kernels_avx512", "Pages", "vfmadd", 8, 0},
    {"kernels_avx512", "Int8Pages", "vpdpwssd", 4, 0},
    {"kernels_avx512_bf16", "multiply", "vdpbf16ps", 8, 0},
#endif
};

// Goal: no hot loop moves its sums through the stack. GCC 12 does that to arrays that `vpdpbusd` and its like
// update as soon as registers run short, and loses half of the speed.
TEST(MachineCode, HotLoopsKeepTheirSumsInRegisters) {
  if (!is_plain_release_build()) GTEST_SKIP() << "only optimised builds without sanitizers";
  const std::vector<Function> functions = kernel_functions();
  for (const HotLoops& hot : kHotLoops) {
    int num_loops = 0;
    for (const Function& function : functions) {
      if (function.file != hot.file || !contains(function.name, hot.function)) continue;
      for (const std::vector<std::string>& loop : inner_loops(function.code)) {
        const int num_products = count_instructions(loop, hot.product);
        if (num_products < 8) continue;
        ++num_loops;
        EXPECT_LE(count_stack_moves(loop), num_products * hot.moves_per_product)
            << hot.file << ", " << hot.product << " in " << function.name;
      }
    }
    EXPECT_GE(num_loops, hot.num_loops) << hot.file << ", " << hot.product;
  }
}

}  // namespace
}  // namespace autoglm::test
