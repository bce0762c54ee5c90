// Memory nodes: on a machine with several, threads are spread over them and kept there, and memory that all
// threads read lies on all of them. Best effort throughout: what the system refuses stays as it was.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

struct NumaNode {
  int id = 0;
  std::vector<int> cpus;  // those that this process may run on, ascending
};

// Nodes with processors for this process, by ascending id; empty where there is only one or nobody knows.
// `root` is the folder with node0, node1, ...
std::vector<NumaNode> numa_nodes(const std::string& root = "/sys/devices/system/node");

// The node of thread `worker` of `num_threads`: neighbours share one. `nodes` is not empty.
const NumaNode& node_of_worker(std::span<const NumaNode> nodes, int worker, int num_threads);

// From now on the calling thread runs on the processors of this node.
void keep_thread_on(const NumaNode& node);

// Pages not touched yet will be taken from all nodes in turn. `memory` begins at a page; no-op without nodes.
void interleave(std::span<std::byte> memory, std::span<const NumaNode> nodes);

// "0-3,8,10-11" as numbers; empty if it is no such list or names a number above `most`.
std::vector<int> parse_cpu_list(std::string_view list, int most);

}  // namespace autoglm
