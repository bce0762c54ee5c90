#include "base/numa.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace autoglm::test {
namespace {

using Numbers = std::vector<int>;

TEST(Numa, ReadsListsOfProcessors) {
  EXPECT_EQ(parse_cpu_list("0-3,8,10-11", 64), (Numbers{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parse_cpu_list("7", 64), Numbers{7});
  EXPECT_EQ(parse_cpu_list("4,2-4", 64), (Numbers{2, 3, 4}));
  EXPECT_EQ(parse_cpu_list("", 64), Numbers{});
}

// Goal: a list nobody wrote on purpose makes no nodes, and none is expanded to billions of numbers.
TEST(Numa, TakesNothingFromABrokenList) {
  for (const char* list : {"3-1", "-1", "1-", "a", "0-3,x", "0x2", "0-999999999", "99999999999", " 1"})
    EXPECT_EQ(parse_cpu_list(list, 1024), Numbers{}) << list;
}

TEST(Numa, GivesNeighbouringThreadsOneNode) {
  const std::vector<NumaNode> nodes = {{.id = 0, .cpus = {0}}, {.id = 2, .cpus = {1}}};
  Numbers ids;
  for (int worker = 0; worker < 5; ++worker) ids.push_back(node_of_worker(nodes, worker, 5).id);
  EXPECT_EQ(ids, (Numbers{0, 0, 0, 2, 2}));
}

#if defined(__linux__)
Numbers own_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  Numbers cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

class NumaFolder : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::temp_directory_path() / ("autoglm-numa-" + std::to_string(getpid()));
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  std::vector<NumaNode> nodes() const { return numa_nodes(root_.string()); }

  std::filesystem::path root_;
};

TEST_F(NumaFolder, ListsTheNodesThatThisProcessMayUse) {
  const Numbers cpus = own_cpus();
  if (cpus.size() < 2) GTEST_SKIP() << "one processor";
  write("online", "0-2,5");
  write("node0/cpulist", std::to_string(cpus[0]) + ",60000");
  write("node1/cpulist", "");             // memory without processors
  write("node2/cpulist", "60001-60010");  // processors of others
  write("node5/cpulist", std::to_string(cpus[1]));
  const std::vector<NumaNode> found = nodes();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].id, 0);
  EXPECT_EQ(found[0].cpus, Numbers{cpus[0]});
  EXPECT_EQ(found[1].id, 5);
  EXPECT_EQ(found[1].cpus, Numbers{cpus[1]});
}

TEST_F(NumaFolder, TakesASingleNodeOrNoFolderForNone) {
  EXPECT_TRUE(nodes().empty());
  write("online", "0-1");
  write("node0/cpulist", std::to_string(own_cpus().at(0)));
  EXPECT_TRUE(nodes().empty());
}

TEST(Numa, KeepsAThreadOnANode) {
  const int cpu = own_cpus().back();
  Numbers seen;
  std::thread([&] {
    keep_thread_on({.id = 0, .cpus = {cpu}});
    seen = own_cpus();
  }).join();
  EXPECT_EQ(seen, Numbers{cpu});
}

#if defined(SYS_mbind) && defined(SYS_get_mempolicy)
TEST(Numa, AsksForPagesOfAllNodesInTurn) {
  constexpr int kInterleave = 3, kOfAddress = 2;
  constexpr size_t kBytes = 1 << 20;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::vector<NumaNode> nodes = {{.id = 0, .cpus = {0}}};
  interleave({static_cast<std::byte*>(memory), kBytes}, nodes);
  int mode = -1;
  unsigned long mask[16] = {};
  const long status = syscall(SYS_get_mempolicy, &mode, mask, 1024, memory, kOfAddress);
  munmap(memory, kBytes);
  if (status != 0) GTEST_SKIP() << "the kernel tells no memory policy";
  if (mode == 0) GTEST_SKIP() << "the kernel lets nobody set a memory policy";
  EXPECT_EQ(mode, kInterleave);
  EXPECT_EQ(mask[0], 1u);
}
#endif
#endif

}  // namespace
}  // namespace autoglm::test
