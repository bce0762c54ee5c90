#include "queues.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

namespace autoglm::cuda::fake {
namespace {

void run_one(CUstream_st& stream) {
  const Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  ++stream.num_done;
  if (operation.is_wait) return operation.run();
  const DeviceMemoryRange::Access access(state().memory_of(*stream.context));
  operation.run();
}

}  // namespace

CUresult queue(CUstream stream, Operation operation) {
  if (!state().streams.has(stream)) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->is_capturing) {
    stream->captured.push_back(std::move(operation));
    return CUDA_SUCCESS;
  }
  if (operation.queue) operation.queue();
  stream->queue.push_back(std::move(operation));
  ++stream->num_queued;
  if (state().settings.runs_at_once != 0) run_until(stream, stream->num_queued);
  return CUDA_SUCCESS;
}

void run_until(CUstream stream, uint64_t position) {
  while (stream->num_done < std::min(position, stream->num_queued)) run_one(*stream);
}

void run_for_other(CUstream stream, uint64_t position) {
  CUctx_st& context = *stream->context;
  if (context.fatal != CUDA_SUCCESS) return;
  try {
    run_until(stream, position);
  } catch (const Fault& fault) {
    context.fatal = fault.code;
    state().fault_text = fault.text;
  }
}

void run_all(CUctx_st& context) {
  for (const auto& [handle, stream] : state().streams) {
    if (stream->context == &context) run_until(handle, std::numeric_limits<uint64_t>::max());
  }
}

void run_for_host(CUstream stream, uint64_t position) {
  if (state().settings.last_stream_first != 0) {
    std::vector<CUstream> others;
    for (const auto& [handle, each] : state().streams) others.push_back(handle);
    std::ranges::sort(others, std::ranges::greater{}, &CUstream_st::id);
    for (CUstream other : others) run_for_other(other, std::numeric_limits<uint64_t>::max());
    if (const CUresult fatal = stream->context->fatal; fatal != CUDA_SUCCESS)
      throw Fault{fatal, state().fault_text};
  }
  const bool goes_on = state().settings.runs_past != 0;
  run_until(stream, goes_on ? std::numeric_limits<uint64_t>::max() : position);
}

bool advance(CUstream stream, uint64_t position) {
  if (stream->num_done >= position) return true;
  run_one(*stream);
  return false;
}

CUstream find_stream(uint64_t id) {
  for (const auto& [handle, stream] : state().streams) {
    if (stream->id == id) return handle;
  }
  return nullptr;
}

}  // namespace autoglm::cuda::fake
