// Streams, events, copies and graphs.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "exports.h"
#include "queues.h"
#include "state.h"

namespace autoglm::cuda {

using fake::Fault;
using fake::in_context;
using fake::state;

namespace {

std::byte* pointer_of(CUdeviceptr address) { return reinterpret_cast<std::byte*>(address); }

void require_allocated(CUcontext context, const void* address, size_t num_bytes, const char* what) {
  if (state().is_alive(context) && state().memory_of(*context).is_allocated(address, num_bytes)) return;
  const CUdevice owner = state().owner_of(address);
  const bool is_foreign = state().is_alive(context) && owner >= 0 && owner != context->device;
  throw Fault{CUDA_ERROR_ILLEGAL_ADDRESS,
              std::string(what) + " of " + std::to_string(num_bytes) + " bytes is not within an allocation" +
                  (is_foreign ? " of this device but of device " + std::to_string(owner) : "")};
}

void require_pinned(const void* address, size_t num_bytes) {
  if (state().is_pinned(address, num_bytes)) return;
  throw Fault{CUDA_ERROR_ILLEGAL_ADDRESS, "page-locked memory was freed before a copy was done with it"};
}

// Work of a stream is given to it in its own context.
CUresult check_stream(CUstream stream, const CUctx_st& context) {
  return state().streams.has(stream) && stream->context == &context ? CUDA_SUCCESS
                                                                    : CUDA_ERROR_INVALID_HANDLE;
}

// A stream that records may not be waited for, and what was recorded is lost when it is.
CUresult check_not_capturing(CUstream stream) {
  if (!state().streams.has(stream)) return CUDA_ERROR_INVALID_HANDLE;
  if (!stream->is_capturing) return CUDA_SUCCESS;
  stream->is_capture_broken = true;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

Operation copy_to_device(CUcontext context, std::byte* target, const void* source, size_t num_bytes) {
  return {[=] {
    require_allocated(context, target, num_bytes, "target of a copy");
    std::memcpy(target, source, num_bytes);
  }};
}

}  // namespace

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr address, const void* source, size_t num_bytes, CUstream stream) {
  return in_context("cuMemcpyHtoDAsync_v2", [&](CUctx_st& context) {
    if (const CUresult result = check_stream(stream, context); result != CUDA_SUCCESS) return result;
    std::byte* target = pointer_of(address);
    Operation operation = copy_to_device(&context, target, source, num_bytes);
    if (state().is_pinned(source, num_bytes)) {
      operation.run = [source, num_bytes, copy = operation.run] {
        require_pinned(source, num_bytes);
        copy();
      };
    } else if (!stream->is_capturing) {  // a recorded copy reads its source whenever it runs
      const auto* bytes = static_cast<const std::byte*>(source);
      auto taken = std::make_shared<const std::vector<std::byte>>(bytes, bytes + num_bytes);
      operation.run = [=, owner = &context] {
        copy_to_device(owner, target, taken->data(), taken->size()).run();
      };
    }
    return fake::queue(stream, std::move(operation));
  });
}

CUresult cuMemcpyDtoHAsync_v2(void* target, CUdeviceptr address, size_t num_bytes, CUstream stream) {
  return in_context("cuMemcpyDtoHAsync_v2", [&](CUctx_st& context) {
    if (const CUresult result = check_stream(stream, context); result != CUDA_SUCCESS) return result;
    const std::byte* source = pointer_of(address);
    const bool is_pinned = state().is_pinned(target, num_bytes);
    Operation operation{[=, owner = &context] {
      require_allocated(owner, source, num_bytes, "source of a copy");
      if (is_pinned) require_pinned(target, num_bytes);
      std::memcpy(target, source, num_bytes);
    }};
    if (is_pinned) {
      operation.queue = [=] {
        if (state().is_pinned(target, num_bytes)) std::memset(target, fake::kPoison, num_bytes);
      };
    }
    const CUresult result = fake::queue(stream, std::move(operation));
    if (result == CUDA_SUCCESS && !is_pinned) fake::run_until(stream, stream->num_queued);
    return result;
  });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t num_bytes, CUstream stream) {
  return in_context("cuMemcpyDtoDAsync_v2", [&](CUctx_st& context) {
    if (const CUresult result = check_stream(stream, context); result != CUDA_SUCCESS) return result;
    return fake::queue(stream, {[=, owner = &context] {
                                  require_allocated(owner, pointer_of(from), num_bytes, "source of a copy");
                                  require_allocated(owner, pointer_of(to), num_bytes, "target of a copy");
                                  std::memmove(pointer_of(to), pointer_of(from), num_bytes);
                                },
                                {}});
  });
}

// Directly only where the context of the call has opened the way: the engine is not to rely on the driver's
// own detour.
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t num_bytes, CUstream stream) {
  return in_context("cuMemcpyPeerAsync", [&](CUctx_st& context) {
    if (const CUresult result = check_stream(stream, context); result != CUDA_SUCCESS) return result;
    CUcontext other = &context == to_context ? from_context : to_context;
    const bool is_open = std::ranges::find(context.reachable, other) != context.reachable.end();
    if (!state().is_alive(to_context) || !state().is_alive(from_context) || !is_open)
      return CUDA_ERROR_INVALID_CONTEXT;
    return fake::queue(stream,
                       {[=] {
                          require_allocated(from_context, pointer_of(from), num_bytes, "source of a copy");
                          require_allocated(to_context, pointer_of(to), num_bytes, "target of a copy");
                          const fake::DeviceMemoryRange::Access access(state().memory_of(*other));
                          std::memmove(pointer_of(to), pointer_of(from), num_bytes);
                          ++state().num_peer_copies;
                        },
                        {}});
  });
}

CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t num_bytes, CUstream stream) {
  return in_context("cuMemsetD8Async", [&](CUctx_st& context) {
    if (const CUresult result = check_stream(stream, context); result != CUDA_SUCCESS) return result;
    return fake::queue(stream, {[=, owner = &context] {
                                  require_allocated(owner, pointer_of(address), num_bytes,
                                                    "target of a fill");
                                  std::memset(pointer_of(address), value, num_bytes);
                                },
                                {}});
  });
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  return in_context("cuStreamCreate", [&](CUctx_st& context) {
    auto made = std::make_unique<CUstream_st>();
    made->context = &context;
    made->id = ++state().last_stream_id;
    *stream = state().streams.add(std::move(made));
    return CUDA_SUCCESS;
  });
}

// What it holds is still done, as by the real one.
CUresult cuStreamDestroy_v2(CUstream stream) {
  return in_context("cuStreamDestroy_v2", [&](CUctx_st&) {
    if (!state().streams.has(stream)) return CUDA_ERROR_INVALID_HANDLE;
    fake::run_until(stream, stream->num_queued);
    state().streams.remove(stream);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamSynchronize(CUstream stream) {
  return in_context("cuStreamSynchronize", [&](CUctx_st&) {
    if (const CUresult result = check_not_capturing(stream); result != CUDA_SUCCESS) return result;
    fake::run_for_host(stream, stream->num_queued);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamQuery(CUstream stream) {
  return in_context("cuStreamQuery", [&](CUctx_st&) {
    if (const CUresult result = check_not_capturing(stream); result != CUDA_SUCCESS) return result;
    return fake::advance(stream, stream->num_queued) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  return in_context("cuStreamWaitEvent", [&](CUctx_st&) {
    if (const CUresult result = check_not_capturing(stream); result != CUDA_SUCCESS) return result;
    if (!state().events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    return fake::queue(stream, {[id = event->stream_id, position = event->position] {
                                  if (const CUstream other = fake::find_stream(id))
                                    fake::run_for_other(other, position);
                                },
                                {},
                                true});
  });
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int) {
  return in_context("cuStreamBeginCapture_v2", [&](CUctx_st&) {
    if (const CUresult result = check_not_capturing(stream); result != CUDA_SUCCESS) return result;
    stream->is_capturing = true;
    stream->is_capture_broken = false;
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return in_context("cuStreamEndCapture", [&](CUctx_st& context) {
    *graph = nullptr;
    if (!state().streams.has(stream) || !stream->is_capturing) return CUDA_ERROR_INVALID_HANDLE;
    stream->is_capturing = false;
    Operations operations = std::exchange(stream->captured, {});
    if (stream->is_capture_broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = state().graphs.add(std::make_unique<CUgraph_st>(&context, std::move(operations)));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  return in_context("cuEventCreate", [&](CUctx_st& context) {
    *event = state().events.add(std::make_unique<CUevent_st>(&context));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return in_context("cuEventDestroy_v2", [&](CUctx_st&) {
    return state().events.remove(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

// Not while recording, which would make other streams part of it: the engine records one stream.
CUresult cuEventRecord(CUevent event, CUstream stream) {
  return in_context("cuEventRecord", [&](CUctx_st&) {
    if (const CUresult result = check_not_capturing(stream); result != CUDA_SUCCESS) return result;
    if (!state().events.has(event) || event->context != stream->context) return CUDA_ERROR_INVALID_HANDLE;
    event->stream_id = stream->id;
    event->position = stream->num_queued;
    return CUDA_SUCCESS;
  });
}

CUresult cuEventQuery(CUevent event) {
  return in_context("cuEventQuery", [&](CUctx_st&) {
    if (!state().events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    const CUstream stream = fake::find_stream(event->stream_id);
    return stream == nullptr || fake::advance(stream, event->position) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuEventSynchronize(CUevent event) {
  return in_context("cuEventSynchronize", [&](CUctx_st&) {
    if (!state().events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    const CUstream stream = fake::find_stream(event->stream_id);
    if (stream != nullptr) fake::run_for_host(stream, event->position);
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  return in_context("cuGraphInstantiateWithFlags", [&](CUctx_st& context) {
    if (!state().graphs.has(graph)) return CUDA_ERROR_INVALID_HANDLE;
    *exec = state().graph_execs.add(std::make_unique<CUgraphExec_st>(&context, graph->operations));
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  return in_context("cuGraphLaunch", [&](CUctx_st& context) {
    if (!state().graph_execs.has(exec) || exec->context != &context) return CUDA_ERROR_INVALID_HANDLE;
    for (const Operation& each : exec->operations) {
      if (const CUresult result = fake::queue(stream, each); result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphDestroy(CUgraph graph) {
  return in_context("cuGraphDestroy", [&](CUctx_st&) {
    return state().graphs.remove(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  return in_context("cuGraphExecDestroy", [&](CUctx_st&) {
    return state().graph_execs.remove(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

}  // namespace autoglm::cuda
