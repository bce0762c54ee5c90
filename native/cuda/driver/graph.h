// A stretch of a stream's work, recorded once and given to the device as one.
#pragma once

#include <memory>

#include "cuda/driver/stream.h"

namespace autoglm::cuda {

// What was recorded: kernels with their arguments, copies and fills with their addresses.
class Graph {
 public:
  Graph() = default;
  CUgraph get() const { return handle_.get(); }
  const std::shared_ptr<Context>& shared_context() const { return handle_.shared_context(); }

 private:
  friend class Capture;
  Owned<CUgraph, &Driver::cuGraphDestroy> handle_;
};

// From construction until `finish` the stream records instead of running. Without `finish` the recording is
// dropped.
class Capture {
 public:
  explicit Capture(Stream& stream);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  Graph finish();

 private:
  Stream* stream_;
};

// Records what `record` gives to `stream`, all of it from the calling thread, without waiting for anything.
// Kernels should have run or been loaded before: a module that is loaded now makes the device wait.
template <typename Record>
Graph capture(Stream& stream, Record&& record) {
  Capture capture(stream);
  record();
  return capture.finish();
}

class GraphExec {
 public:
  GraphExec() = default;
  explicit GraphExec(const Graph& graph);

  void launch(Stream& stream);
  bool is_present() const { return handle_.get() != nullptr; }

 private:
  Owned<CUgraphExec, &Driver::cuGraphExecDestroy> handle_;
};

}  // namespace autoglm::cuda
