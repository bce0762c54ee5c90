#include "cuda/driver/graph.h"

#include <utility>

namespace autoglm::cuda {

// Relaxed: the limits that the other modes set on all other calls exist for the legacy stream, which we do
// not use.
Capture::Capture(Stream& stream) : stream_(&stream) {
  stream.context().call(stream.context().driver().cuStreamBeginCapture_v2, stream.get(),
                        CU_STREAM_CAPTURE_MODE_RELAXED);
}

Capture::~Capture() {
  if (stream_ == nullptr) return;
  Context& context = stream_->context();
  CUgraph dropped = nullptr;
  context.release(context.driver().cuStreamEndCapture, stream_->get(), &dropped);
  if (dropped != nullptr) context.release(context.driver().cuGraphDestroy, dropped);
}

Graph Capture::finish() {
  Stream& stream = *std::exchange(stream_, nullptr);
  CUgraph handle = nullptr;
  stream.context().call(stream.context().driver().cuStreamEndCapture, stream.get(), &handle);
  Graph graph;
  graph.handle_ = {stream.shared_context(), handle};
  return graph;
}

GraphExec::GraphExec(const Graph& graph) {
  Context& context = *graph.shared_context();
  CUgraphExec handle = nullptr;
  context.call(context.driver().cuGraphInstantiateWithFlags, &handle, graph.get(), 0ull);
  handle_ = {graph.shared_context(), handle};
}

void GraphExec::launch(Stream& stream) {
  stream.context().call(stream.context().driver().cuGraphLaunch, handle_.get(), stream.get());
}

}  // namespace autoglm::cuda
